"""Turns a configuration into one immutable Snapshot, swaps it whole, and owns start and stop.

start        all that a start loads, before anything is bound
server       the process: start, signals, drain
sockets      what listeners listen on; systemd: that passes some, and is told how we are
privileges   who the process is; descriptors: how many files it may open

material     the files that a configuration names, read and checked; report: every problem at its line
trusts       of these, a truststore's; lists: its CRL files; servers: TLS to an upstream's; issuers: doubtful names
token        the admin's bearer token
snapshot     material to contexts, routers and judges: what requests are served by
pools        and to upstreams
reload       files that change, and what becomes of it; watched: which; changes: what, in words

listener     one listener: acceptor, connections, handshake failures; retired: those that a reload has taken away
judging      remembers acceptances by what was presented; chains: of sessions that are resumed

feeds        what the network says of revocation; feed: of one truststore; hub: what a feed needs around it
offline      the same asked once from outside, for `explain` and `check`

status       what the admin listener shows; lasting: of revocation data; gauges: as metrics
control      what it may change: reload, deny, lift; auditing: who did, for the audit log
denials      who was denied through the API, kept on disk
"""
