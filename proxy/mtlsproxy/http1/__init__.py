"""HTTP/1.1 (RFC 9110, 9112) towards clients and upstreams: framing, header rules, forwarding under back-pressure.

A message is never copied through: its head is parsed (httptools, strict, plus the rules here), its body is framed by
our own counting and chunk decoding, and both are written anew.

    fields         what becomes of a header field by its name
    request_head   bytes of a request's head to `RequestHead`, or `BadMessage` with the reason that answers it
    response_head  the same for an upstream's answer
    errors         what BadMessage says
    body           message bodies: by length, by chunks, until close
    gate           may a request pass, and to where
    visitor        a client as the data path remembers it
    forwarding     the request's head as the upstream gets it
    answers        problem+json refusals
    exchange       one request and its answer, between a downstream and an upstream connection
    client         a client's connection apart from what is asked: whether it may stay, and how it ends
    downstream     the same, with its requests
    origin         an upstream server's connection
    health_check   is an upstream server well
    websocket      may a connection leave HTTP for a WebSocket
    tunnel         bytes both ways once it has
    standing       is a connection's client still who it was
    refuser        says no: the answer and its record
    record         what becomes of a request in metrics and logs
    service        what all connections of a listener share
"""
