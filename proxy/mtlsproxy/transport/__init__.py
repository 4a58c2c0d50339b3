"""Byte streams over non-blocking sockets, with watermarks, and the one timer wheel."""
