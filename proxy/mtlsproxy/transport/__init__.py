"""Byte streams over non-blocking sockets, with watermarks, and the one timer wheel.

interfaces  what streams and their handlers ask of each other
stream      a stream over a socket
hangups     tells streams of resets that come together with bytes
wheel       every timeout of the process
loop        uvloop, or asyncio's own
"""
