"""In which ways one truststore lets in more than another, its CAs and deny lists aside."""

from collections.abc import Iterator

from mtlsproxy.config.model import Truststore

_MODES = ("off", "soft_fail", "hard_fail")


def weaker_ways(one: Truststore, other: Truststore) -> tuple[str, ...]:
    """Each way in which `one` asks for less, `what instead of what`; empty where there is none."""
    return (*_revocation(one, other), *_usage(one, other), *_strength(one, other), *_names(one, other))


def _revocation(one: Truststore, other: Truststore) -> Iterator[str]:
    mine, theirs = one.revocation, other.revocation
    mode, strict = "off" if mine is None else mine.mode, "off" if theirs is None else theirs.mode
    if _MODES.index(mode) < _MODES.index(strict):
        yield f"revocation {mode} instead of {strict}"
    if mine is None or theirs is None or "off" in (mode, strict):
        return
    if mine.scope == "leaf" and theirs.scope == "chain":
        yield "revocation of the leaf alone instead of the chain"
    if mine.short_lived > theirs.short_lived:
        yield f"no revocation for leaves of up to {mine.short_lived:g} s instead of {theirs.short_lived:g} s"
    if mine.crl.grace > theirs.crl.grace:
        yield f"CRLs count {mine.crl.grace:g} s past their end instead of {theirs.crl.grace:g} s"


def _usage(one: Truststore, other: Truststore) -> Iterator[str]:
    mine, theirs = one.extended_key_usage, other.extended_key_usage
    if mine.allow_absent and not theirs.allow_absent:
        yield "extended_key_usage.allow_absent"
    if mine.allow_any and not theirs.allow_any:
        yield "extended_key_usage.allow_any"
    if missing := [usage for usage in theirs.require if usage not in mine.require]:
        yield f"extended key usage {', '.join(missing)} not required"


def _strength(one: Truststore, other: Truststore) -> Iterator[str]:
    if one.keys.minimum_rsa_bits < other.keys.minimum_rsa_bits:
        yield f"RSA keys of {one.keys.minimum_rsa_bits} bits instead of {other.keys.minimum_rsa_bits}"
    for what, mine, theirs in (
        ("keys of", one.keys.curves, other.keys.curves),
        ("signatures by", one.signature_hashes, other.signature_hashes),
    ):
        if more := [value for value in mine if value not in theirs]:
            yield f"{what} {', '.join(more)}, too"


def _names(one: Truststore, other: Truststore) -> Iterator[str]:
    if other.certificate_policies and not one.certificate_policies:
        yield "no certificate policy required"
    if other.spiffe_trust_domain is not None and one.spiffe_trust_domain is None:
        yield "no SPIFFE ID required"
