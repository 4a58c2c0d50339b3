"""Path validation and truststore policy (RFC 5280 §6): bytes and a time in, `Verified` or `Refused` out. Pure."""
