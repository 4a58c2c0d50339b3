"""What a TLS server wants of its clients, found out by connecting to it (`mtlsproxy probe`).

    messages    what is read of the server's handshake: CertificateRequest, alerts
    answers     what is read of its HTTP answer: is it for want of a certificate, or for a bad one?
    talk        one connection: the handshake, a request, and all that was seen of both
    conclude    what that means: required, requested or not asked for; this certificate accepted or not
    checks      the four checks of the server's own certificate
    survey      which connections are made, and the report on all of them

`messages`, `answers`, `conclude` and `checks` are pure. Nothing that a server says here is trusted, so that it can be
asked whatever its certificate is: no secret is sent, and of a client's key only a signature over this one handshake.
"""
