"""How what was read belongs together: who signed what, which key is whose, the order of a chain. Numbers count from 1.

Only signatures that verify join a certificate to its issuer; a name alone is a claim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mtlsproxy.anatomy.items import CertificateItem, Contents, CrlItem, KeyItem, RequestItem
from mtlsproxy.revocation.crl import verify_crl
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.names import Rdn, canonical
from mtlsproxy.x509.path import Link
from mtlsproxy.x509.signatures import link

MOST_CANDIDATES = 16
"""Namesakes of an issuer that are tried: each costs a verification."""


class Proof(StrEnum):
    """What is known of a signature."""

    VERIFIED = "verified"
    SELF_SIGNED = "self_signed"
    WRONG = "wrong"
    UNSUPPORTED = "unsupported"
    NO_ISSUER = "no_issuer"
    """Nobody of the issuer's name is among the files, or only another of that name."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Of a certificate or CRL. by: the number of the item that made it, where it verifies. detail: one sentence."""

    proof: Proof
    by: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class RevokedBy:
    """A CRL, of the certificate's issuer, that lists it."""

    crl: int
    at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class Order:
    """The certificates of one file. numbers: of the items, as they stand. best: as TLS wants them, where they are one
    chain. detail: one sentence."""

    file: str
    numbers: tuple[int, ...]
    best: tuple[int, ...] | None
    detail: str


@dataclass(frozen=True, slots=True)
class Relations:
    """By item number. key_of: private keys of certificates and requests; owners: the reverse. same_as: an earlier item
    that is the same certificate. request_of: requests of the certificates' keys. revoked: empty where no CRL of the
    issuer lists it."""

    signatures: dict[int, Signature]
    key_of: dict[int, int]
    owners: dict[int, tuple[int, ...]]
    same_as: dict[int, int]
    request_of: dict[int, int]
    revoked: dict[int, tuple[RevokedBy, ...]]
    orders: tuple[Order, ...]


def relate(contents: Contents) -> Relations:
    items = dict(enumerate(contents.items, 1))
    certificates = {n: item for n, item in items.items() if isinstance(item, CertificateItem)}
    crls = {n: item for n, item in items.items() if isinstance(item, CrlItem)}
    by_name: dict[tuple[Rdn, ...], list[int]] = {}
    for number, item in certificates.items():
        by_name.setdefault(canonical(item.certificate.x509.subject), []).append(number)
    same_as = _repeated(certificates)
    signatures = {
        number: _signature(item.certificate, _named(item.certificate.x509.issuer, by_name, same_as), certificates)
        for number, item in certificates.items()
    }
    signatures |= {
        number: _crl_signature(item, _signers(item, certificates, same_as), certificates)
        for number, item in crls.items()
    }
    owners = _owners(contents)
    return Relations(
        signatures=signatures,
        key_of={owned: key for key, all_owned in owners.items() for owned in all_owned},
        owners=owners,
        same_as=same_as,
        request_of=_requests(contents, certificates),
        revoked=_revocations(certificates, crls, signatures),
        orders=tuple(_orders(certificates, signatures, same_as)),
    )


def _repeated(certificates: dict[int, CertificateItem]) -> dict[int, int]:
    first: dict[bytes, int] = {}
    return {
        number: earlier
        for number, item in certificates.items()
        if (earlier := first.setdefault(item.certificate.der, number)) != number
    }


def _named(name: object, by_name: dict[tuple[Rdn, ...], list[int]], same_as: dict[int, int]) -> list[int]:
    numbers = by_name.get(canonical(name), [])  # type: ignore[arg-type]
    return [number for number in numbers if number not in same_as][:MOST_CANDIDATES]


def _signature(certificate: Certificate, candidates: list[int], known: dict[int, CertificateItem]) -> Signature:
    found: dict[Link, int] = {}
    for number in candidates:
        issuer = known[number].certificate
        proof = link(certificate, issuer)
        if proof is Link.SIGNED:
            if issuer == certificate:
                return Signature(Proof.SELF_SIGNED, number, "its own: it is self-signed, and the signature verifies")
            return Signature(Proof.VERIFIED, number, f"by {number}, verified with the key of {issuer.subject}")
        found.setdefault(proof, number)
    issuer_name = certificate.issuer or "(empty name)"
    if Link.FORGED in found:
        number = found[Link.FORGED]
        return Signature(Proof.WRONG, None, f"wrong: the key of {number}, {issuer_name}, did not make it")
    if Link.UNSUPPORTED in found:
        return Signature(Proof.UNSUPPORTED, None, "not verified: an algorithm or a key that is not supported here")
    if Link.OTHER_KEY in found:
        words = f"not verified: another CA of the name {issuer_name} made it than {found[Link.OTHER_KEY]}"
        return Signature(Proof.NO_ISSUER, None, words)
    return Signature(Proof.NO_ISSUER, None, f"not verified: the certificate of {issuer_name} is not among the files")


def _signers(item: CrlItem, certificates: dict[int, CertificateItem], same_as: dict[int, int]) -> list[int]:
    named = (n for n, c in certificates.items() if c.certificate.subject_der == item.crl.issuer_der)
    return [number for number in named if number not in same_as][:MOST_CANDIDATES]


def _crl_signature(item: CrlItem, candidates: list[int], known: dict[int, CertificateItem]) -> Signature:
    why = ""
    for number in candidates:
        issuer = known[number].certificate
        try:
            verify_crl(item.crl, issuer)
        except CrlError as error:
            why = error.detail
        else:
            return Signature(Proof.VERIFIED, number, f"by {number}, verified with the key of {issuer.subject}")
    if why:
        return Signature(Proof.WRONG, None, f"not verified: {why}")
    issuer_name = item.crl.issuer or "(empty name)"
    return Signature(Proof.NO_ISSUER, None, f"not verified: the certificate of {issuer_name} is not among the files")


def _owners(contents: Contents) -> dict[int, tuple[int, ...]]:
    numbered = list(enumerate(contents.items, 1))
    private = {
        n: item.spki for n, item in numbered if isinstance(item, KeyItem) and item.kind == "private" and item.spki
    }
    holders = [(n, item.spki) for n, item in numbered if isinstance(item, CertificateItem | RequestItem)]
    return {key: tuple(n for n, spki in holders if spki == mine) for key, mine in private.items()}


def _requests(contents: Contents, certificates: dict[int, CertificateItem]) -> dict[int, int]:
    """A certificate was made from a request that has its key, as far as anybody can tell."""
    known = {item.spki: n for n, item in enumerate(contents.items, 1) if isinstance(item, RequestItem) and item.spki}
    return {number: known[item.spki] for number, item in certificates.items() if item.spki in known}


def _revocations(
    certificates: dict[int, CertificateItem], crls: dict[int, CrlItem], signatures: dict[int, Signature]
) -> dict[int, tuple[RevokedBy, ...]]:
    """A list counts for what the same key signed (RFC 5280 §6.3.3)."""
    out = {}
    for number, item in certificates.items():
        issuer = _key(signatures[number].by, certificates)
        found = []
        for crl_number, crl in crls.items():
            if issuer is None or _key(signatures[crl_number].by, certificates) != issuer:
                continue
            entry = crl.crl.lookup(item.certificate.serial)
            if entry is not None:
                found.append(RevokedBy(crl_number, entry.revoked_at, entry.reason))
        out[number] = tuple(found)
    return out


def _key(number: int | None, certificates: dict[int, CertificateItem]) -> tuple[bytes, str] | None:
    if number is None:
        return None
    certificate = certificates[number].certificate
    return certificate.subject_der, certificate.spki_sha256


# -- order ------------------------------------------------------------------------------------------------------------


def _orders(
    certificates: dict[int, CertificateItem], signatures: dict[int, Signature], same_as: dict[int, int]
) -> list[Order]:
    """Of every file with two certificates or more."""
    files: dict[str, list[int]] = {}
    for number, item in certificates.items():
        files.setdefault(item.origin.file, []).append(number)
    return [_order(file, tuple(numbers), signatures, same_as) for file, numbers in files.items() if len(numbers) > 1]


def _order(file: str, numbers: tuple[int, ...], signatures: dict[int, Signature], same_as: dict[int, int]) -> Order:
    here = {same_as.get(number, number): number for number in numbers}
    if len(here) < len(numbers):
        return Order(file, numbers, None, "a certificate is in it twice")
    roots = [number for number in numbers if signatures[number].proof is Proof.SELF_SIGNED]
    if len(roots) == len(numbers):
        return Order(file, numbers, None, f"{len(numbers)} self-signed certificates: trust anchors, and no chain")
    signers = {n: here[by] for n in numbers if (by := signatures[n].by) in here and n not in roots and by is not None}
    best = _chain(numbers, signers)
    if best is None:
        return Order(file, numbers, None, "not one chain: not each of them signed the one before it")
    root = f"; the root, {roots[0]}, need not be sent: who verifies must have it" if roots else ""
    if best == numbers:
        return Order(file, numbers, best, f"leaf first, each signed by the next, as TLS wants it{root}")
    wanted = ", ".join(map(str, best))
    return Order(file, numbers, best, f"out of order: put them in the order {wanted} (RFC 8446 §4.4.2){root}")


def _chain(numbers: Sequence[int], signers: dict[int, int]) -> tuple[int, ...] | None:
    """The order in which each was signed by the next, where there is one for all of them."""
    starts = [number for number in numbers if number not in signers.values()]
    if len(starts) != 1:
        return None
    chain = [starts[0]]
    while (following := signers.get(chain[-1])) is not None and following not in chain:
        chain.append(following)
    return tuple(chain) if len(chain) == len(numbers) else None
