"""Extensions of certificates and requests in words (RFC 5280 §4.2); DV, OV and EV by their policies."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cryptography import x509

from mtlsproxy.anatomy.items import Shown
from mtlsproxy.x509.checks import eku_name

_KEY_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
_KINDS: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "DNS",
    x509.UniformResourceIdentifier: "URI",
    x509.RFC822Name: "EMAIL",
    x509.IPAddress: "IP",
}
_NAMES = {
    "2.5.29.14": "subject key identifier",
    "2.5.29.15": "key usage",
    "2.5.29.17": "subject alternative name",
    "2.5.29.18": "issuer alternative name",
    "2.5.29.19": "basic constraints",
    "2.5.29.30": "name constraints",
    "2.5.29.31": "CRL distribution points",
    "2.5.29.32": "certificate policies",
    "2.5.29.33": "policy mappings",
    "2.5.29.35": "authority key identifier",
    "2.5.29.36": "policy constraints",
    "2.5.29.37": "extended key usage",
    "2.5.29.46": "freshest CRL",
    "2.5.29.54": "inhibit anyPolicy",
    "2.5.29.56": "no revocation available",
    "1.3.6.1.5.5.7.1.1": "authority information access",
    "1.3.6.1.5.5.7.1.11": "subject information access",
    "1.3.6.1.5.5.7.1.24": "TLS feature",
    "1.3.6.1.5.5.7.48.1.5": "OCSP no check",
    "1.3.6.1.4.1.11129.2.4.2": "signed certificate timestamps",
    "1.3.6.1.4.1.11129.2.4.3": "precertificate poison",
    "1.3.6.1.4.1.311.20.2": "Microsoft certificate template name",
    "1.3.6.1.4.1.311.21.7": "Microsoft certificate template",
    "2.16.840.1.113730.1.1": "Netscape certificate type",
    "2.16.840.1.113730.1.13": "Netscape comment",
}
_ACCESS = {"1.3.6.1.5.5.7.48.1": "OCSP", "1.3.6.1.5.5.7.48.2": "CA certificate", "1.3.6.1.5.5.7.48.5": "repository"}


@dataclass(frozen=True, slots=True)
class Validation:
    """What a public CA has checked before it signed (CA/Browser Forum Baseline Requirements §7.1.6.1, EV §9.3.2)."""

    short: str
    words: str


VALIDATIONS = {
    "2.23.140.1.1": Validation("EV", "extended validation: the organisation's legal existence and its request"),
    "2.23.140.1.2.2": Validation("OV", "organisation validated: control of the names, and who the organisation is"),
    "2.23.140.1.2.3": Validation("IV", "individual validated: control of the names, and who the person is"),
    "2.23.140.1.2.1": Validation("DV", "domain validated: control of the names, nothing about who asked"),
}
"""Policy OID → level, the strictest first: a certificate may assert several."""

_POLICIES = {oid: each.words.partition(":")[0] for oid, each in VALIDATIONS.items()} | {
    "2.5.29.32.0": "any policy",
    "2.23.140.1.3": "extended validation code signing",
    "2.23.140.1.4.1": "code signing",
}


def validation_of(policies: Iterable[str]) -> Validation | None:
    """What the CA asserts; None where it asserts none of these, as private CAs do."""
    asserted = set(policies)
    return next((level for oid, level in VALIDATIONS.items() if oid in asserted), None)


def policy_text(oid: str) -> str:
    return f"{oid} ({_POLICIES[oid]})" if oid in _POLICIES else oid


def show_all(extensions: Iterable[x509.Extension[x509.ExtensionType]]) -> tuple[Shown, ...]:
    """In their order."""
    return tuple(_show(extension) for extension in extensions)


def _show(extension: x509.Extension[x509.ExtensionType]) -> Shown:
    oid, value = extension.oid.dotted_string, extension.value
    render = _RENDERERS.get(type(value))
    values = tuple(render(value)) if render is not None else (f"{len(value.public_bytes())} bytes",)
    return Shown(_NAMES.get(oid, oid), oid, extension.critical, values)


def general_name(name: x509.GeneralName) -> str:
    """`DNS:x`, `IP:192.0.2.0/24`; by kind and bytes what is in none of the usual forms."""
    if type(name) in _KINDS:
        return f"{_KINDS[type(name)]}:{name.value}"
    if isinstance(name, x509.DirectoryName):
        return f"DN:{name.value.rfc4514_string()}"
    if isinstance(name, x509.OtherName):
        return f"OTHER:{name.type_id.dotted_string}:{name.value.hex()}"
    return f"ID:{name.value.dotted_string}" if isinstance(name, x509.RegisteredID) else "?"


def _key_usage(value: x509.KeyUsage) -> Iterable[str]:
    for attribute, name in _KEY_USAGES.items():
        if getattr(value, attribute):
            yield name
    if value.key_agreement:
        yield from (
            n for n, is_set in (("encipherOnly", value.encipher_only), ("decipherOnly", value.decipher_only)) if is_set
        )


def _basic(value: x509.BasicConstraints) -> Iterable[str]:
    if not value.ca:
        return ["not a CA"]
    below = "" if value.path_length is None else f", at most {value.path_length} CAs below it"
    return [f"a CA{below}"]


def _constraints(value: x509.NameConstraints) -> Iterable[str]:
    yield from (f"permitted {general_name(name)}" for name in value.permitted_subtrees or ())
    yield from (f"excluded {general_name(name)}" for name in value.excluded_subtrees or ())


def _points(value: x509.CRLDistributionPoints | x509.FreshestCRL) -> Iterable[str]:
    for point in value:
        names = ", ".join(map(general_name, point.full_name or ())).replace("URI:", "")
        relative = point.relative_name.rfc4514_string() if point.relative_name else ""
        issuer = f" (issued by {', '.join(map(general_name, point.crl_issuer))})" if point.crl_issuer else ""
        some = " (for some reasons only)" if point.reasons else ""
        yield f"{names or relative or 'without a name'}{issuer}{some}"


def _access(value: Iterable[x509.AccessDescription]) -> Iterable[str]:
    for one in value:
        method = one.access_method.dotted_string
        yield f"{_ACCESS.get(method, method)} {general_name(one.access_location).removeprefix('URI:')}"


def _authority(value: x509.AuthorityKeyIdentifier) -> Iterable[str]:
    if value.key_identifier is not None:
        yield value.key_identifier.hex()
    if value.authority_cert_serial_number is not None:
        names = ", ".join(map(general_name, value.authority_cert_issuer or ()))
        yield f"serial {value.authority_cert_serial_number:X} of {names}"


def _policy_constraints(value: x509.PolicyConstraints) -> Iterable[str]:
    if value.require_explicit_policy is not None:
        yield f"an explicit policy is required after {value.require_explicit_policy} certificates"
    if value.inhibit_policy_mapping is not None:
        yield f"no mapping after {value.inhibit_policy_mapping} certificates"


def _timestamps(value: Iterable[object]) -> Iterable[str]:
    count = sum(1 for _ in value)
    return [f"{count} timestamp{'s' if count != 1 else ''} of certificate transparency logs"]


_RENDERERS: dict[type[x509.ExtensionType], Callable[..., Iterable[str]]] = {
    x509.SubjectAlternativeName: lambda value: map(general_name, value),
    x509.IssuerAlternativeName: lambda value: map(general_name, value),
    x509.KeyUsage: _key_usage,
    x509.ExtendedKeyUsage: lambda value: (eku_name(oid.dotted_string) for oid in value),
    x509.BasicConstraints: _basic,
    x509.NameConstraints: _constraints,
    x509.CertificatePolicies: lambda value: (policy_text(one.policy_identifier.dotted_string) for one in value),
    x509.PolicyConstraints: _policy_constraints,
    x509.InhibitAnyPolicy: lambda value: [f"after {value.skip_certs} certificates"],
    x509.AuthorityInformationAccess: _access,
    x509.SubjectInformationAccess: _access,
    x509.CRLDistributionPoints: _points,
    x509.FreshestCRL: _points,
    x509.SubjectKeyIdentifier: lambda value: [value.digest.hex()],
    x509.AuthorityKeyIdentifier: _authority,
    x509.OCSPNoCheck: lambda _: ["a responder's certificate that need not be asked about"],
    x509.TLSFeature: lambda value: ("must staple OCSP" if one.value == 5 else str(one.value) for one in value),
    x509.PrecertificateSignedCertificateTimestamps: _timestamps,
    x509.SignedCertificateTimestamps: _timestamps,
    x509.PrecertPoison: lambda _: ["no certificate: it was made for a transparency log"],
}
