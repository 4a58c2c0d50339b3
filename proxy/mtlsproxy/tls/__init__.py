"""Accepts connections, reads the ClientHello, shakes hands, and names every failure.

acceptor        a listener's sockets and its limits
handshake       one connection from accept to the end of its handshake
slots           how many handshakes at once, and whose
proxy_header    what a load balancer says of its client, before TLS
client_hello    what the client asks for, before a context is chosen
contexts        contexts of a listener; client_context: towards the servers of an upstream
credentials     certificates of ours with their keys; permissions: who may read those
names           which hosts a certificate of ours stands for
tickets         keys of session tickets
stream          TLS over a socket stream
capture         what a peer presented, also where OpenSSL refused it
failures        exceptions of OpenSSL's to reasons
native          what only libssl itself can do
memory_file     files that OpenSSL reads by name, in memory alone
"""
