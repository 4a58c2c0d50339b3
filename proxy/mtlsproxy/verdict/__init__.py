"""Chain, revocation and deny lists together: one Verdict a connection, shared by data path, shadow mode and explain. Pure."""
