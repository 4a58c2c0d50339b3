"""HTTP/1.1 (RFC 9110, 9112) towards clients and upstreams: framing, header rules, forwarding under back-pressure."""
