"""A verified client as facts, as a principal and as header bytes; the header names that no client may send. Pure.

client     what a leaf says of its holder
described  the same of a client whose certificate is not at hand
render     header lines for the upstream
strip      header names that no client may send
"""
