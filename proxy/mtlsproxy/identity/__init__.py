"""A verified client as facts, as a principal and as header bytes; the header names that no client may send. Pure."""
