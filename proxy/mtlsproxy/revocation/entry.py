"""The parts of a CRL entry (RFC 5280 §5.3): its date and its extensions. Each distinct value is parsed once."""

from datetime import UTC, date, datetime, timedelta

from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.x509 import der

REASON_ABSENT = 0xFF

REASONS = {
    0: "unspecified",
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    6: "certificateHold",
    8: "removeFromCRL",
    9: "privilegeWithdrawn",
    10: "aACompromise",
}
"""RFC 5280 §5.3.1. 7 is not used."""

REMOVE_FROM_CRL = 8
"""Takes an entry of the base out again (RFC 5280 §5.2.4): in delta CRLs alone."""

_BOOLEAN = 0x01
_OCTET_STRING = 0x04
_ONE_OCTET_ENUMERATED = b"\x0a\x01"
_REASON_CODE = b"\x55\x1d\x15"  # 2.5.29.21
_INVALIDITY_DATE = b"\x55\x1d\x18"  # 2.5.29.24: tells when a key may have been lost; the entry counts all the same
_CERTIFICATE_ISSUER = b"\x55\x1d\x1d"  # 2.5.29.29

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_UTC_PIVOT = 50  # RFC 5280 §4.1.2.5.1: YY of 50 and above is 19YY
_EXTENSIONS_KEPT = 4096  # invalidity dates make them differ: a list of a million must not fill the memory with them


def moment(seconds: int) -> datetime:
    """`seconds` since 1970-01-01T00:00:00Z as an aware time."""
    return _EPOCH + timedelta(seconds=seconds)


class Days(dict[bytes, int]):
    """YYMMDD or YYYYMMDD → seconds from the epoch to that day. A malformed day raises CrlError."""

    def __missing__(self, digits: bytes) -> int:
        if not digits.isdigit():
            raise CrlError("has a malformed revocation date")
        year = int(digits[:-4])
        if len(digits) == len("YYMMDD"):
            year += 1900 if year >= _UTC_PIVOT else 2000
        try:
            seconds = (date(year, int(digits[-4:-2]), int(digits[-2:])).toordinal() - _EPOCH_DAY) * 86400
        except ValueError as error:
            raise CrlError("has a revocation date that is in no calendar") from error
        self[digits] = seconds
        return seconds


class Clocks(dict[bytes, int]):
    """HHMMSSZ → seconds of the day. Anything else (fractions, offsets: RFC 5280 §4.1.2.5) raises CrlError."""

    def __missing__(self, text: bytes) -> int:
        hour, minute, second = text[:2], text[2:4], text[4:6]
        if not (text[:6].isdigit() and text[6:] == b"Z" and hour < b"24" and minute < b"60" and second < b"60"):
            raise CrlError("has a malformed revocation time")
        seconds = int(hour) * 3600 + int(minute) * 60 + int(second)
        self[text] = seconds
        return seconds


class Reasons(dict[bytes, int]):
    """crlEntryExtensions in DER → the reason code, or REASON_ABSENT.

    CrlError: malformed or repeated extensions, an unknown critical one, certificateIssuer (an indirect CRL), an unknown
    code, removeFromCRL elsewhere than in a delta CRL.
    """

    def __init__(self, *, delta: bool = False) -> None:
        self._delta = delta

    def __missing__(self, extensions: bytes) -> int:
        code = _reason(extensions)
        if code == REMOVE_FROM_CRL and not self._delta:
            raise CrlError("has the reason removeFromCRL, which belongs in a delta CRL (RFC 5280 §5.3.1)")
        if len(self) < _EXTENSIONS_KEPT:
            self[extensions] = code
        return code


def _reason(data: bytes) -> int:
    try:
        start, end = der.enter(data, 0, len(data), der.SEQUENCE)
        if end != len(data) or start == end:
            raise CrlError("has an empty extension list, or octets after it")
        found: dict[bytes, bytes] = {}
        for _, at, after in der.children(data, start, end):
            identifier, value = _extension(data, at, after)
            if identifier in found:
                raise CrlError(f"has the extension {_name(identifier)} twice")
            found[identifier] = value
    except der.DerError as error:
        raise CrlError(f"has malformed extensions: {error}") from error
    return _reason_code(found[_REASON_CODE]) if _REASON_CODE in found else REASON_ABSENT


def _extension(data: bytes, at: int, end: int) -> tuple[bytes, bytes]:
    """The extension (RFC 5280 §4.1) at `at`: the content of its identifier and of its value."""
    start, end = der.enter(data, at, end, der.SEQUENCE)
    content, after = der.enter(data, start, end, der.OBJECT_IDENTIFIER)
    identifier = data[content:after]
    tag, content, value_end = der.read(data, after, end)
    critical = tag == _BOOLEAN
    if critical:
        if data[content:value_end] != b"\xff":
            raise CrlError("has an extension whose critical flag is not DER")
        tag, content, value_end = der.read(data, value_end, end)
    if tag != _OCTET_STRING or value_end != end:
        raise CrlError("has a malformed extension")
    if identifier == _CERTIFICATE_ISSUER:
        raise CrlError("names another certificate issuer: indirect CRLs are not supported")
    if critical and identifier not in (_REASON_CODE, _INVALIDITY_DATE):
        raise CrlError(f"has an unknown critical extension, {_name(identifier)} (RFC 5280 §5.3)")
    return identifier, data[content:value_end]


def _name(identifier: bytes) -> str:
    return f"with the OID {identifier.hex()} (hexadecimal DER)"


def _reason_code(value: bytes) -> int:
    if len(value) != 3 or value[:2] != _ONE_OCTET_ENUMERATED:
        raise CrlError("has a malformed reason code")
    if value[2] not in REASONS:
        raise CrlError(f"has the reason code {value[2]}, which RFC 5280 §5.3.1 does not define")
    return value[2]
