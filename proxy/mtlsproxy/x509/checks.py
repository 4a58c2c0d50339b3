"""The checks on a path's certificates one by one: validity, key, signature, key usage, extended key usage."""

from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa

from mtlsproxy.reasons import Reason
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.path import Finding, Link, Path, failed, passed
from mtlsproxy.x509.policy import ANY_EXTENDED_KEY_USAGE, EKU_NAMES, SERVER_AUTH, Policy
from mtlsproxy.x509.signatures import MAX_RSA_BITS

_CA_ONLY_USAGES = frozenset({"keyCertSign"})


def check_validity(path: Path, at: datetime) -> Finding:
    """RFC 5280 §6.1.3 (a)(2), both ends included and to the second; the trust anchor's dates count as well."""
    rule = f"valid at {_when(at)} (RFC 5280 §4.1.2.5)"
    second = at.replace(microsecond=0)
    for index, certificate in enumerate(path.certificates):
        if second > certificate.not_after:
            seen = f"{path.role(index)} expired at {_when(certificate.not_after)}"
            fix = "renew the certificate" if index == 0 else "replace the expired CA certificate on both sides"
            return failed("validity", Reason.EXPIRED, seen, rule, fix)
        if second < certificate.not_before:
            seen = f"{path.role(index)} is not valid before {_when(certificate.not_before)}"
            fix = "wait until then, or correct the clock of this host or of the CA"
            return failed("validity", Reason.NOT_YET_VALID, seen, rule, fix)
    soonest = min(path.certificates, key=lambda certificate: certificate.not_after)
    return passed("validity", f"until {_when(soonest.not_after)}", rule)


def _when(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def check_key(path: Path, policy: Policy) -> Finding:
    """The truststore's `keys`, for every certificate below the trust anchor."""
    allowed = ", ".join(sorted(policy.curves))
    rule = f"RSA of {policy.minimum_rsa_bits} to {MAX_RSA_BITS} bits, or {allowed} (truststore keys)"
    for index, certificate in enumerate(path.below_anchor):
        if not _strong(certificate, policy):
            seen = f"{path.role(index)} has the key {certificate.key_name}"
            return failed(
                "key", Reason.WEAK_KEY, seen, rule, "make a new key that the rule allows and have it certified"
            )
    return passed("key", ", ".join(certificate.key_name for certificate in path.below_anchor), rule)


def _strong(certificate: Certificate, policy: Policy) -> bool:
    key = certificate.public_key
    if isinstance(key, rsa.RSAPublicKey):
        return policy.minimum_rsa_bits <= key.key_size <= MAX_RSA_BITS
    return key is not None and certificate.key_name in policy.curves


def check_signature(path: Path, policy: Policy) -> Finding:
    """RFC 5280 §6.1.3 (a)(1), and the truststore's signature_hashes for every certificate below the trust anchor.

    EdDSA has its hash built in and is governed by `keys`.
    """
    rule = f"signed by its issuer with one of {', '.join(sorted(policy.signature_hashes))} (signature_hashes)"
    for index, certificate in enumerate(path.below_anchor):
        link = path.links[index] if index < len(path.links) else None
        if link in (Link.FORGED, Link.OTHER_KEY):
            seen = f"the signature of {path.role(index)} was not made with the key of {path.role(index + 1)}"
            fix = "the certificate was altered, or issued under another key of that CA: get it from the CA again"
            return failed("signature", Reason.BAD_SIGNATURE, seen, rule, fix)
        hashing = certificate.signature_hash
        if link is Link.UNSUPPORTED or (hashing is not None and hashing not in policy.signature_hashes):
            seen = f"{path.role(index)} is signed with {hashing}"
            if link is Link.UNSUPPORTED:
                key = path.certificates[index + 1].key_name
                seen = f"{path.role(index)} has a signature (algorithm {certificate.signature_algorithm}, key {key})"
                seen += " that is not supported"
            fix = "have it issued again with a signature that the rule allows"
            return failed("signature", Reason.WEAK_SIGNATURE, seen, rule, fix)
    return passed(
        "signature", ", ".join(certificate.signature_hash or "EdDSA" for certificate in path.below_anchor), rule
    )


def check_key_usage(path: Path) -> Finding:
    """RFC 5280 §4.2.1.3: a peer signs its handshake; and a CA certificate is no peer's."""
    leaf = path.leaf
    rule = "no CA certificate; digitalSignature where there is a key usage (RFC 5280 §4.2.1.3, §4.2.1.9)"
    if leaf.is_ca:
        fix = "use a certificate that the CA issued for this peer, not the CA's own"
        return failed("key_usage", Reason.CA_AS_LEAF, "the leaf is a CA certificate (cA=TRUE)", rule, fix)
    if leaf.key_usage is None:
        return passed("key_usage", "no key usage extension", rule)
    seen = ", ".join(sorted(leaf.key_usage)) or "none"
    if "digitalSignature" not in leaf.key_usage:
        fix = "ask the CA for a certificate whose key usage has digitalSignature"
        return failed("key_usage", Reason.KEY_USAGE, f"the leaf's key usage is {seen}", rule, fix)
    if _CA_ONLY_USAGES & leaf.key_usage:
        fix = "ask the CA for a certificate without keyCertSign, which only a CA may have"
        return failed("key_usage", Reason.KEY_USAGE, f"the leaf's key usage is {seen}", rule, fix)
    return passed("key_usage", seen, rule)


def check_extended_key_usage(path: Path, policy: Policy) -> Finding:
    """The truststore's `extended_key_usage` on the leaf; and an issuer that has the extension is limited to it.

    NOTE: RFC 5280 §4.2.1.12 leaves issuers open. They are held to it here as OpenSSL and the Web PKI do, trust anchor
    included, and anyExtendedKeyUsage counts there exactly where it counts in the leaf.
    """
    wanted = ", ".join(eku_name(oid) for oid in policy.require_eku)
    rule = f"extended key usage {wanted} (RFC 5280 §4.2.1.12)"
    leaf = path.leaf.extended_key_usage
    if leaf is None and policy.require_eku and not policy.allow_absent_eku:
        fix = f"ask the CA for a certificate with EKU {wanted}, or set extended_key_usage.allow_absent"
        return failed("extended_key_usage", Reason.EKU_MISSING, "the leaf has no extended key usage", rule, fix)
    for index, certificate in enumerate(path.certificates):
        usages = certificate.extended_key_usage
        if usages is not None and not _permits(usages, policy):
            seen = f"{path.role(index)} has EKU {', '.join(eku_name(oid) for oid in usages)}"
            reason = Reason.EKU_MISMATCH
            return failed("extended_key_usage", reason, seen, rule, _eku_fix(index, usages, wanted))
    shown = "no extended key usage" if leaf is None else ", ".join(eku_name(oid) for oid in leaf)
    return passed("extended_key_usage", shown, rule)


def _permits(usages: tuple[str, ...], policy: Policy) -> bool:
    if policy.allow_any_eku and ANY_EXTENDED_KEY_USAGE in usages:
        return True
    return all(required in usages for required in policy.require_eku)


def _eku_fix(index: int, usages: tuple[str, ...], wanted: str) -> str:
    if index > 0:
        return f"use a CA that may issue for {wanted}; the EKU of this one limits everything below it"
    if SERVER_AUTH in usages:
        return f"ask the CA for a certificate with EKU {wanted}; this one is a server certificate"
    if ANY_EXTENDED_KEY_USAGE in usages:
        return f"ask the CA for a certificate with EKU {wanted}, or set extended_key_usage.allow_any"
    return f"ask the CA for a certificate with EKU {wanted}"


def eku_name(oid: str) -> str:
    """`clientAuth` for 1.3.6.1.5.5.7.3.2 and so on; the OID itself where it has no well-known name."""
    return EKU_NAMES.get(oid, oid)
