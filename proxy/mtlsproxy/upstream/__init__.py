"""Lends connections to upstream servers.

addresses  where a server is, looked up off the loop and again every 30 seconds
connect    a non-blocking connect: all addresses in turn, or a unix socket, then TLS where the server has it
secure     TLS with a server, and the judgement of its certificate
balance    which of several servers is next (pure)
breaker    whether a server that failed may be asked again (pure)
health     what active checks have found of a server (pure); the checks themselves are http1's
server     one server: its connections, its counts, whether it may be asked
waiting    who waits for a connection, and whose turn it is (pure)
pool       which server, which connection, who waits
"""
