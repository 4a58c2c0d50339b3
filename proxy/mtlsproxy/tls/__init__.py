"""Accepts connections, reads the ClientHello, shakes hands, and names every failure."""
