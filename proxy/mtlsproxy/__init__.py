"""mtlsproxy: a reverse proxy that lets nobody through who has not proved, with a client certificate, who they are.

The rooms, in the order in which a connection meets them (imports go the other way, and one way only):

    cli         one file a command; thin
    demo        everything at once, on an embedded default
    admin       metrics, health, status page and JSON API, on an address of their own
    workers     several processes as one proxy
    runtime     turns a configuration into one immutable Snapshot and swaps it whole; owns start and stop
    http1       HTTP/1.1 towards clients and upstreams: framing, header rules, forwarding
    upstream    lends connections to upstream servers, verified ones where they speak TLS
    tls         accepts connections, reads the ClientHello, shakes hands, names every failure
    fetch       CRLs and OCSP answers from elsewhere, without holding up a request
    telemetry   counters, histograms, access log, refusals, audit log
    transport   byte streams with watermarks over non-blocking sockets, and the one timer wheel
    verdict     chain, revocation and deny lists together: who is this, may they come in, and why
    access      who may do what: matchers, routes, Decision
    identity    a verified client as a principal and as header bytes
    revocation  CRLs and OCSP answers to a decision with its evidence
    x509        path validation and truststore policy: bytes and a time in, evidence out
    config      the configuration file as a frozen model
    reasons     the fixed vocabulary of refusals
    hardening   what no process of ours may do

`devpki`, beside them, is the development CA; `probe` asks other servers what they want of their clients;
`anatomy` tells what is in files of certificates and keys.

x509, revocation, identity, access, verdict and anatomy are pure: no socket, no clock, no file (revocation.sources
alone reads files). Time is a parameter, and a refusal is a value that says why.
"""

__version__ = "0.1.0"
