"""Turns a configuration into one immutable Snapshot, swaps it whole, and owns start and stop.

material  the files that a configuration names, read and checked; every problem at its line
snapshot  material to contexts, routers and judges: what requests are served by
judging   remembers acceptances by what was presented
listener  one listener: acceptor, connections, handshake failures
gauges    what certificates and CRLs say of themselves, as metrics
status    what the admin listener shows
control   what it may change: reload, deny, lift
denials   who was denied through the API, kept on disk
token     the admin's bearer token
feeds     what the network says of revocation; feed: of one truststore; hub: what a feed needs around it
offline   the same asked once from outside, for `explain` and `check`
reload    files that change, and what becomes of it
server    the process: start, signals, drain
"""
