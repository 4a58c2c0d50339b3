"""A certificate revocation list, parsed once into what a decision asks for (RFC 5280 §5).

What cannot be judged safely is refused: indirect lists, lists for some reasons only, unknown critical extensions. A
delta list (§5.2.4) says what changed since its base and is of use only beside one: see `CombinedCrl`. A list whose
signature was not verified says nothing: see `verify_crl`, and `CrlSet`, which applies it.
"""

import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from cryptography import x509 as pyca
from cryptography.exceptions import UnsupportedAlgorithm

from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.revocation.index import EMPTY, RevokedEntry, SerialIndex, build_index
from mtlsproxy.revocation.signature import Signature, signature_of
from mtlsproxy.x509 import der
from mtlsproxy.x509.certificate import Certificate, point_urls
from mtlsproxy.x509.oddities import silence_oddities

__all__ = ["Crl", "CrlError", "RevokedEntry", "Scope", "load_crls", "parse_crl", "verify_crl"]

_NUMBER_OCTETS = 20

HANDLED_CRITICAL = (
    pyca.CRLNumber,
    pyca.AuthorityKeyIdentifier,
    pyca.IssuingDistributionPoint,
    pyca.IssuerAlternativeName,
    pyca.AuthorityInformationAccess,
    pyca.FreshestCRL,
    pyca.DeltaCRLIndicator,
)
"""Extensions that may be critical: what we act upon, and those that cannot change what the list says."""

_UNPARSABLE = (
    ValueError,
    TypeError,
    pyca.InvalidVersion,
    pyca.DuplicateExtension,
    pyca.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
_BIT_STRING = 0x03
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18
_VERSION_2 = b"\x02\x01\x01"
_BEGIN = b"-----BEGIN "
_BEGIN_CRL = b"-----BEGIN X509 CRL-----"
_END_CRL = b"-----END X509 CRL-----"


class Scope(StrEnum):
    """Which certificates a list can answer for (RFC 5280 §5.2.5)."""

    ALL = "all"
    USER = "user"
    CA = "ca"


@dataclass(frozen=True, slots=True, eq=False)
class Crl:
    """One parsed CRL. Names are RFC 4514, times aware UTC, sha256 is of the DER in lower-case hexadecimal.

    source: the file or URL it came from. size: octets of DER. urls: where the issuing distribution point has a name,
    the URLs of it; then the list answers only for certificates that name one of them (RFC 5280 §6.3.3 b 2 i).
    base_number: of a delta CRL, the number from which it counts changes (BaseCRLNumber); None in a complete list.
    freshest_urls: where its deltas are published (§5.2.6).
    """

    source: str
    size: int
    sha256: str
    issuer: str
    issuer_der: bytes
    authority_key_id: bytes | None
    number: int | None
    this_update: datetime
    next_update: datetime | None
    scope: Scope
    urls: frozenset[str]
    index: SerialIndex
    signature: Signature
    base_number: int | None = None
    freshest_urls: tuple[str, ...] = ()

    @property
    def is_delta(self) -> bool:
        return self.base_number is not None

    @property
    def entries(self) -> int:
        return len(self.index)

    @property
    def title(self) -> str:
        """The list in a sentence: its number, where it has one, and its source."""
        kind = "delta CRL" if self.is_delta else "CRL"
        return f"{kind} {self.source}" if self.number is None else f"{kind} number {self.number} from {self.source}"

    def lookup(self, serial: int) -> RevokedEntry | None:
        """The entry of `serial`, or None where the list has none."""
        return self.index.lookup(serial)

    def covers(self, certificate: Certificate) -> bool:
        """Whether silence of this list about `certificate` means that it is good. A CA is what says so (§4.2.1.9)."""
        if self.scope is not Scope.ALL and (self.scope is Scope.CA) != bool(certificate.is_ca):
            return False
        return not self.urls or not self.urls.isdisjoint(certificate.crl_urls)

    def __repr__(self) -> str:
        return f"<Crl {self.issuer!r} number {self.number} {self.sha256[:16]}>"


def parse_crl(data: bytes, source: str) -> Crl:
    """The CRL in `data` (exactly one, DER). Raises CrlError, whatever the bytes; its detail begins with `source`."""
    try:
        return _parse(data, source)
    except CrlError as error:
        raise CrlError(f"{source}: {error.detail}") from error
    except _UNPARSABLE as error:
        raise CrlError(f"{source}: {len(data)} octets are no CRL that RFC 5280 allows: {error}") from error


def load_crls(data: bytes, source: str) -> tuple[Crl, ...]:
    """Every CRL of a file: one in DER, or one or many in PEM (RFC 7468), where text may precede each.

    Raises CrlError for none at all, a PEM block of another kind, and anything after the last one.
    """
    if _BEGIN not in data:
        return (parse_crl(data, source),)
    blocks = list(_pem_blocks(data, source))
    if len(blocks) == 1:
        return (parse_crl(blocks[0], source),)
    return tuple(parse_crl(block, f"{source} (CRL {number})") for number, block in enumerate(blocks, 1))


def verify_crl(crl: Crl, issuer: Certificate) -> None:
    """Return when `issuer` signed `crl` and may (RFC 5280 §6.3.3 f, g); else raise CrlError, which says why not."""
    if crl.issuer_der != issuer.subject_der:
        raise CrlError(f"{crl.title} is of {crl.issuer}, not of {issuer.subject}")
    if issuer.key_usage is not None and "cRLSign" not in issuer.key_usage:
        raise CrlError(f"{issuer.subject} signed {crl.title}, but its key usage lacks cRLSign (RFC 5280 §4.2.1.3)")
    try:
        crl.signature.verify(issuer.public_key)
    except CrlError as error:
        raise CrlError(f"{crl.title} {error.detail}{_key_hint(crl, issuer)}") from error


def _key_hint(crl: Crl, issuer: Certificate) -> str:
    """Only the signature decides; key identifiers tell the operator which key the list was meant for."""
    if crl.authority_key_id is None or issuer.subject_key_id in (None, crl.authority_key_id):
        return ""
    return f": it names the key {crl.authority_key_id.hex()}, and this one is {issuer.subject_key_id.hex()}"


def _pem_blocks(data: bytes, source: str) -> Iterator[bytes]:
    at = 0
    while (begin := data.find(_BEGIN, at)) >= 0:
        if not data.startswith(_BEGIN_CRL, begin):
            label = data[begin + len(_BEGIN) : begin + 60].partition(b"-----")[0].decode("ascii", "replace")
            raise CrlError(f"{source}: holds a PEM block {label!r}; a CRL file holds X509 CRL blocks alone")
        body = begin + len(_BEGIN_CRL)
        end = data.find(_END_CRL, body)
        if end < 0:
            raise CrlError(f"{source}: the PEM block at octet {begin} of {len(data)} has no END line")
        try:
            yield binascii.a2b_base64(data[body:end].translate(None, b" \t\r\n"), strict_mode=True)
        except binascii.Error as error:
            raise CrlError(f"{source}: the PEM block at octet {begin} is not base64: {error}") from error
        at = end + len(_END_CRL)
    if data[at:].strip():
        raise CrlError(f"{source}: {len(data) - at} of {len(data)} octets follow the last PEM block")


@dataclass(frozen=True, slots=True)
class _Raw:
    """What is taken from the bytes as they were signed (RFC 5280 §5.1); entries: offsets of their content."""

    tbs: memoryview
    issuer: bytes
    entries: tuple[int, int] | None
    version_2: bool


def _slice(data: bytes) -> _Raw:
    start, end = der.enter(data, 0, len(data), der.SEQUENCE)
    if end != len(data):
        raise CrlError(f"{len(data) - end} of {len(data)} octets follow the end of the CRL")
    parts = der.children(data, start, end)
    if len(parts) != 3:
        raise CrlError("a CRL has three parts")
    tbs, algorithm, signature = parts
    bits, bits_end = der.enter(data, signature[1], signature[2], _BIT_STRING)
    if data[bits : min(bits + 1, bits_end)] != b"\0":
        raise CrlError("the signature is not whole octets")  # the library lets unused bits pass, outside of the hash
    fields = der.children(data, *der.enter(data, tbs[1], tbs[2], der.SEQUENCE))
    version_2 = bool(fields) and fields[0][0] == der.INTEGER
    if version_2 and data[fields[0][1] : fields[0][2]] != _VERSION_2:
        raise CrlError("neither a version 1 nor a version 2 CRL")
    fields = fields[1:] if version_2 else fields
    if len(fields) < 3:
        raise CrlError("fields are missing")
    if data[fields[0][1] : fields[0][2]] != data[algorithm[1] : algorithm[2]]:
        raise CrlError("the signature algorithm differs from the one that was signed (RFC 5280 §5.1.1.2)")
    rest = fields[3:] if len(fields) == 3 or fields[3][0] not in (_UTC_TIME, _GENERALIZED_TIME) else fields[4:]
    entries = der.enter(data, rest[0][1], rest[0][2], der.SEQUENCE) if rest and rest[0][0] == der.SEQUENCE else None
    if not version_2 and len(rest) > (entries is not None):
        raise CrlError("a version 1 CRL has no extensions (RFC 5280 §5.1.2.1)")
    return _Raw(memoryview(data)[tbs[1] : tbs[2]], data[fields[1][1] : fields[1][2]], entries, version_2)


def _parse(data: bytes, source: str) -> Crl:
    raw = _slice(data)
    silence_oddities()
    loaded = pyca.load_der_x509_crl(data)
    issuer = loaded.issuer.rfc4514_string()
    extensions = _Extensions(loaded)
    signature = signature_of(loaded, raw.tbs)
    if extensions.base_number is not None and extensions.number is None:
        raise CrlError("a delta CRL without a number, so that no base can be told from a later one (RFC 5280 §5.2.3)")
    return Crl(
        source=source,
        size=len(data),
        sha256=sha256(data).hexdigest(),
        issuer=issuer,
        issuer_der=raw.issuer,
        authority_key_id=extensions.authority_key_id,
        number=extensions.number,
        this_update=loaded.last_update_utc,
        next_update=loaded.next_update_utc,
        scope=extensions.scope,
        urls=extensions.urls,
        index=_index(data, raw, delta=extensions.base_number is not None),
        signature=signature,
        base_number=extensions.base_number,
        freshest_urls=extensions.freshest_urls,
    )


def _index(data: bytes, raw: _Raw, *, delta: bool) -> SerialIndex:
    if raw.entries is None:
        return EMPTY
    return build_index(data, *raw.entries, extensions=raw.version_2, delta=delta)


def _number(value: int) -> int:
    """Python writes no integer of thousands of digits, and whoever serves a list chooses this one. Raises CrlError."""
    if not 0 <= value < 1 << 8 * _NUMBER_OCTETS:
        raise CrlError(f"a CRL number that is negative or longer than {_NUMBER_OCTETS} octets (RFC 5280 §5.2.3)")
    return value


class _Extensions:
    """crlExtensions (RFC 5280 §5.2). Raises CrlError for what we cannot process."""

    def __init__(self, loaded: pyca.CertificateRevocationList) -> None:
        self.authority_key_id: bytes | None = None
        self.number: int | None = None
        self.scope = Scope.ALL
        self.urls: frozenset[str] = frozenset()
        self.base_number: int | None = None
        self.freshest_urls: tuple[str, ...] = ()
        for extension in loaded.extensions:
            self._take(extension)

    def _take(self, extension: pyca.Extension[pyca.ExtensionType]) -> None:
        value = extension.value
        if extension.critical and not isinstance(value, HANDLED_CRITICAL):
            raise CrlError(f"an unknown critical extension, {extension.oid.dotted_string} (RFC 5280 §5.2)")
        if isinstance(value, pyca.AuthorityKeyIdentifier):
            self.authority_key_id = value.key_identifier
        elif isinstance(value, pyca.CRLNumber):
            self.number = _number(value.crl_number)
        elif isinstance(value, pyca.DeltaCRLIndicator):
            self.base_number = _number(value.crl_number)
        elif isinstance(value, pyca.FreshestCRL):
            self.freshest_urls = point_urls(value)
        elif isinstance(value, pyca.IssuingDistributionPoint):
            self._take_distribution_point(value)

    def _take_distribution_point(self, point: pyca.IssuingDistributionPoint) -> None:
        """RFC 5280 §5.2.5. Lists that could only ever answer in part are refused rather than taken for whole."""
        if point.indirect_crl:
            raise CrlError("an indirect CRL, which is not supported (RFC 5280 §5.2.5)")
        if point.only_some_reasons is not None:
            raise CrlError("a CRL for some reasons only, which is not supported: publish one for all (RFC 5280 §5.2.5)")
        if point.only_contains_attribute_certs:
            raise CrlError("a CRL for attribute certificates, which says nothing about clients (RFC 5280 §5.2.5)")
        if point.only_contains_user_certs:
            self.scope = Scope.USER
        elif point.only_contains_ca_certs:
            self.scope = Scope.CA
        if point.relative_name is not None:
            raise CrlError("a distribution point that is named relative to the issuer, which is not supported")
        names = point.full_name or ()
        self.urls = frozenset(n.value for n in names if isinstance(n, pyca.UniformResourceIdentifier))
        if names and not self.urls:
            raise CrlError("a distribution point whose name is no URL, which is not supported (RFC 5280 §5.2.5)")
