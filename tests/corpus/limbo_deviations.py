"""Where our verdict differs from x509-limbo's on purpose: case → (ours, why). A case that agrees must not be listed."""

_CABF_CN = "CA/Browser Forum rule on the subject's CN, which nothing here ever reads as a server's or client's name"
_AKI_ROOT = "key identifiers are hints for path building (RFC 5280 §4.2.1.1); a root's own points nowhere"
_WEAK_ANCHOR = "keys hold below the trust anchor (configuration.md): the anchor's own key is the operator's choice"
_EKU_PEDANTIC = "CA/Browser Forum profile; RFC 5280 §4.2.1.12 allows it"
_SUFFIX = "no public suffix list: names inside an organisation are not registered under one"
_CLIENT_CA = "interfaces.md: nobody authenticates with a CA certificate (ca_as_leaf), whatever else it is good for"

ACCEPTED = {
    "crl::crlnumber-missing": "a list without cRLNumber still revokes; its age goes by thisUpdate",
    "crl::crlnumber-critical": "processed all the same; refusing the list would un-revoke what it names",
    "rfc5280::aki::leaf-missing-aki": "internal CAs leave the AKI out, and a chain is complete without it",
    "rfc5280::aki::intermediate-missing-aki": "internal CAs leave the AKI out, and a chain is complete without it",
    "rfc5280::aki::cross-signed-root-missing-aki": "internal CAs leave the AKI out, and a chain is complete without it",
    "rfc5280::nc::permitted-dns-match-noncritical": "enforced all the same (webpki::nc expects such a chain to pass)",
    "rfc5280::pc::ica-noncritical-pc": "policyConstraints are processed all the same: refusing would protect nobody",
    "rfc5280::san::noncritical-with-empty-subject": "the SAN is processed all the same; issuers forget the bit",
    "rfc5280::serial::too-long": "RFC 5280 §4.1.2.2 binds CAs; 21 octets come of CAs that take 160 random bits",
    "rfc5280::serial::zero": "RFC 5280 §4.1.2.2: users should handle it gracefully; old `openssl req` roots have it",
    "rfc5280::ski::root-missing-ski": "internal CAs leave the SKI out, and a chain is complete without it",
    "rfc5280::ski::intermediate-missing-ski": "internal CAs leave the SKI out, and a chain is complete without it",
    "rfc5280::root-non-critical-basic-constraints": "they count all the same: OpenSSL's sample wrote them so",
    "webpki::aki::root-with-aki-missing-keyidentifier": _AKI_ROOT,
    "webpki::aki::root-with-aki-all-fields": _AKI_ROOT,
    "webpki::aki::root-with-aki-ski-mismatch": _AKI_ROOT,
    "webpki::cn::ipv4-hex-mismatch": _CABF_CN,
    "webpki::cn::ipv4-leading-zeros-mismatch": _CABF_CN,
    "webpki::cn::ipv6-uppercase-mismatch": _CABF_CN,
    "webpki::cn::ipv6-uncompressed-mismatch": _CABF_CN,
    "webpki::cn::ipv6-non-rfc5952-mismatch": _CABF_CN,
    "webpki::cn::punycode-not-in-san": _CABF_CN,
    "webpki::cn::utf8-vs-punycode-mismatch": _CABF_CN,
    "webpki::cn::not-in-san": _CABF_CN,
    "webpki::cn::case-mismatch": _CABF_CN,
    "webpki::eku::ee-anyeku": _EKU_PEDANTIC,
    "webpki::eku::ee-critical-eku": _EKU_PEDANTIC,
    "webpki::eku::ee-without-eku": "RFC 5280 §4.2.1.12 allows it; run here with allow_absent, as rfc5280::eku demands",
    "webpki::eku::root-has-eku": "CA/Browser Forum profile; a root's EKU is honoured, and this one has serverAuth",
    "webpki::san::public-suffix-multi-label-wildcard-san": _SUFFIX,
    "webpki::san::public-suffix-private-namespace-wildcard-san": _SUFFIX,
    "webpki::san::san-critical-with-nonempty-subject": "RFC 5280 §4.2.1.6 only recommends otherwise",
    "webpki::forbidden-p192-root": _WEAK_ANCHOR,
    "webpki::forbidden-weak-rsa-key-in-root": _WEAK_ANCHOR,
    "webpki::forbidden-rsa-not-divisible-by-8-in-root": _WEAK_ANCHOR,
    "webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf": "CA/Browser Forum rule; 2048 bits or more will do",
}
"""What the suite refuses and we accept."""

REFUSED = {
    "pathlen::validation-ignores-pathlen-in-leaf": _CLIENT_CA,
    "pathlen::max-chain-depth-1-self-issued": "configuration.md: max_chain_depth counts self-issued CA certificates",
    "rfc5280::ca-as-leaf": _CLIENT_CA,
}
"""What the suite accepts and we refuse."""
