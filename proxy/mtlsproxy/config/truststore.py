"""`truststores`: whose certificates are believed, and under which conditions."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from mtlsproxy.config.base import Absent, Many, ManyOnce, Section, Some, SomeOnce, written
from mtlsproxy.config.matchers import DenyEntry, checked_oid
from mtlsproxy.config.scalars import (
    Duration,
    FileName,
    PositiveDuration,
    PositiveSize,
    checked_text,
    host_of,
    off_for_false,
    parse_path,
    port_of,
)

EXTENDED_KEY_USAGES = {
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
    "smartcardLogon": "1.3.6.1.4.1.311.20.2.2",
    "pkInitKPClientAuth": "1.3.6.1.5.2.3.4",
}
"""Names of extended key usages (RFC 5280 §4.2.1.12, RFC 4556 §3.2.2, Microsoft) → dotted OID."""
_ANY_EKU = ("anyExtendedKeyUsage", "2.5.29.37.0")


def _eku(text: str) -> str:
    if text in _ANY_EKU:
        raise ValueError("anyExtendedKeyUsage is not something to require: see allow_any")
    if text in EXTENDED_KEY_USAGES:
        return EXTENDED_KEY_USAGES[text]
    if text[:1].isdigit():
        return checked_oid(text)
    raise ValueError(f"{text!r} is not an extended key usage: {', '.join(EXTENDED_KEY_USAGES)}, or a dotted OID")


def checked_url(text: str) -> str:
    """An absolute http(s) URL without user information or fragment."""
    checked_text(text)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{text!r} is not an http:// or https:// URL")
    if "@" in parts.netloc:
        raise ValueError("a URL here carries no user name or password")
    if parts.fragment or not text.isascii() or " " in text:
        raise ValueError(f"{text!r} is not a URL that can be fetched: no fragment, no space, ASCII alone")
    split_authority(parts.netloc)
    return text


def split_authority(netloc: str) -> tuple[str, int | None]:
    """`host[:port]` → host without brackets, port."""
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?", netloc)
    if not found:
        raise ValueError(f"{netloc!r} is not a host with an optional port")
    port = port_of(found[2]) if found[2] else None
    if port == 0:
        raise ValueError("port 0 cannot be connected to")
    return host_of(found[1]), port


def _crl_source(value: object, info: ValidationInfo) -> Path | str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://.*", value, re.DOTALL):
        return checked_url(value)
    return parse_path(value, info)


def _trust_domain(text: str) -> str:
    if text.startswith("spiffe://"):
        raise ValueError(
            f"is the trust domain alone, without spiffe://: {text.removeprefix('spiffe://').split('/')[0]}"
        )
    # SPIFFE-ID §2.1: lower-case letters, digits, dots, dashes, underscores; at most 255 bytes.
    if not re.fullmatch(r"[a-z0-9._-]{1,255}", text):
        raise ValueError(f"{text!r} is not a SPIFFE trust domain: lower-case letters, digits, `.`, `-` and `_`")
    return text


def _rsa_bits(bits: int) -> int:
    if bits < 2048:
        raise ValueError(f"{bits} is too weak: at least 2048 (OpenSSL refuses less as well)")
    if bits > 16384:
        raise ValueError(f"{bits} is more than the 16384 bits that OpenSSL verifies")
    return bits


class ExtendedKeyUsage(Section):
    """What a leaf's extended key usage must say (RFC 5280 §4.2.1.12)."""

    require: Annotated[
        SomeOnce[
            Annotated[
                str,
                AfterValidator(_eku),
                WithJsonSchema({"anyOf": [{"enum": list(EXTENDED_KEY_USAGES)}, {"pattern": r"^[0-2](\.[0-9]+)+$"}]}),
            ]
        ],
        Field(validate_default=True),
    ] = ("clientAuth",)
    """Names or dotted OIDs; all must be present in the leaf. In the model: dotted OIDs."""
    allow_absent: bool = False
    """Accept a leaf with no extended key usage extension."""
    allow_any: bool = False
    """Let anyExtendedKeyUsage count as the required ones."""


class Keys(Section):
    """Public keys that are strong enough, in every certificate below the trust anchor."""

    minimum_rsa_bits: Annotated[
        int, AfterValidator(_rsa_bits), WithJsonSchema({"type": "integer", "minimum": 2048})
    ] = 2048
    """Smallest RSA modulus, in bits."""
    curves: ManyOnce[Literal["P-256", "P-384", "P-521", "Ed25519", "Ed448"]] = (
        "P-256",
        "P-384",
        "P-521",
        "Ed25519",
        "Ed448",
    )
    """Elliptic curves that are accepted."""


class CrlOptions(Section):
    """Certificate revocation lists (RFC 5280 §5)."""

    sources: Many[
        Annotated[Path | str, BeforeValidator(_crl_source), WithJsonSchema({"type": "string", "minLength": 1})]
    ] = ()
    """PEM or DER files, directories, globs, http(s):// URLs."""
    distribution_points: bool = False
    """Also fetch the URLs named in certificates: distribution points, and deltas (freshestCRL)."""
    refresh: PositiveDuration = written("1h")
    """How often to look again, at least; a CRL's own nextUpdate can make it sooner."""
    grace: Duration = written("0s")
    """Accept a CRL this long past its nextUpdate."""


class OcspOptions(Section):
    """The Online Certificate Status Protocol (RFC 6960)."""

    enabled: bool = False
    responder: Annotated[str, AfterValidator(checked_url)] | None = None
    """URL; null: the one in the certificate's AIA, subject to fetch.allowed_hosts."""
    timeout: PositiveDuration = written("3s")
    max_age: PositiveDuration = written("1h")
    """How long a response without nextUpdate is kept, at most."""
    require_nonce: bool = False
    """Refuse responses that do not repeat our nonce."""


class FetchOptions(Section):
    """What URLs named by certificates may do; configured URLs need no permission."""

    allowed_hosts: ManyOnce[Annotated[str, AfterValidator(host_of)]] = ()
    """Hosts that a certificate's URL may name."""
    max_size: PositiveSize = written("64MiB")
    timeout: PositiveDuration = written("10s")
    trust_anchors: Many[FileName] = ()
    """PEM files, directories or globs of the CAs that https servers are verified with; empty: no https. The system's
    CAs are never used."""


class Revocation(Section):
    """How revoked certificates are found. The block's absence means off, with a warning."""

    mode: Annotated[
        Literal["hard_fail", "soft_fail", "off"],
        BeforeValidator(off_for_false),
        WithJsonSchema({"enum": ["hard_fail", "soft_fail", "off", "no", False]}),
    ] = "hard_fail"
    """Without a usable, fresh answer: hard_fail refuses, soft_fail lets pass; off does not ask."""
    scope: Literal["chain", "leaf"] = "chain"
    """Every certificate below the trust anchor, or the leaf alone."""
    crl: CrlOptions = Field(default_factory=CrlOptions)
    ocsp: OcspOptions = Field(default_factory=OcspOptions)
    fetch: FetchOptions = Field(default_factory=FetchOptions)
    short_lived: Duration = written("0s")
    """Skip revocation for leaves that live no longer than this."""

    @model_validator(mode="after")
    def _needs_a_source(self) -> Self:
        if self.mode != "off" and not (self.crl.sources or self.crl.distribution_points or self.ocsp.enabled):
            raise ValueError(
                f"mode is {self.mode}, but nothing says who is revoked: give crl.sources, or write mode: off"
            )
        return self


class Truststore(Section):
    """Trust anchors and what is demanded of the chains below them."""

    trust_anchors: Some[FileName]
    """PEM files, directories or globs of CA certificates, self-signed or not."""
    intermediates: Many[FileName] = ()
    """Extra CA certificates for path building, trusted for nothing themselves."""
    max_chain_depth: Annotated[int, Field(ge=0, le=16)] = 5
    """CA certificates allowed between leaf and trust anchor (self-issued ones count)."""
    extended_key_usage: ExtendedKeyUsage = Field(default_factory=ExtendedKeyUsage)
    keys: Keys = Field(default_factory=Keys)
    signature_hashes: SomeOnce[Literal["sha256", "sha384", "sha512"]] = ("sha256", "sha384", "sha512")
    """Hashes of the signatures below the trust anchor."""
    certificate_policies: ManyOnce[
        Annotated[
            str, AfterValidator(checked_oid), WithJsonSchema({"type": "string", "pattern": r"^[0-2](\.[0-9]+)+$"})
        ]
    ] = ()
    """Dotted OIDs; when given, the leaf must assert at least one."""
    spiffe_trust_domain: Annotated[str, AfterValidator(_trust_domain)] | None = None
    """When set, the leaf must be an X509-SVID of this trust domain."""
    revocation: Absent[Revocation] = None
    deny: Many[DenyEntry] = ()
    """Refused whatever else says."""
    deny_file: FileName | None = None
    """A YAML list of such entries, watched for changes."""
