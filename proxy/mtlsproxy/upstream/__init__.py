"""Lends connections to upstream servers.

addresses  where a server is, looked up off the loop and again every 30 seconds
connect    a non-blocking connect: all addresses in turn, or a unix socket, then TLS where the server has it
secure     TLS with a server, and the judgement of its certificate
pool       which server, which connection, who waits
"""
