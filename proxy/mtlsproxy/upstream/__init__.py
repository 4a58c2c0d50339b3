"""Lends connections to upstream servers.

connect  a non-blocking connect, with names resolved off the loop
pool     which server, which connection, who waits
"""
