"""Chain, revocation and deny lists together: one Verdict a connection, shared by data path and explain. Pure.

trust   a truststore with its revocation data and its deny list
judge   presented certificates and a time to a Verdict
server  the same of a server, which is known by name
"""
