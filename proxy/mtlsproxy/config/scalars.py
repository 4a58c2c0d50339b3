"""The notations of single values: durations, sizes, addresses, paths, names. Parsers raise ValueError, in words."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

Network = IPv4Network | IPv6Network

MAX_DURATION = 3650 * 86400.0
"""Ten years, in seconds: added to any certificate's date it stays a valid date."""
MAX_SIZE = 1 << 40
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,15})(KiB|MiB|GiB|)")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BIND = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*):([0-9]{1,5})")


def _text(value: object, example: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string such as {example}")  # noqa: TRY004 (pydantic collects ValueError alone)
    return value


def parse_duration(value: object) -> float:
    """`250ms`, `10s`, `5m`, `1h`, `7d` → seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"needs a unit: {value}s, {value}ms, {value}m, {value}h or {value}d")  # noqa: TRY004
    text = _text(value, "10s")
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a duration: write a whole number and a unit, such as 250ms, 10s, 5m, 1h, 7d")
    seconds = int(found[1]) * _SECONDS[found[2]]
    if seconds > MAX_DURATION:
        raise ValueError(f"{text} is longer than the 3650d that a duration may be")
    return seconds


def parse_size(value: object) -> int:
    """`512` (as a number or a string), `16KiB`, `4MiB`, `1GiB` → bytes."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value, "16KiB")
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a size: write a whole number of bytes, or one with KiB, MiB or GiB")
    size = int(found[1]) * _BYTES[found[2]]
    if size > MAX_SIZE:
        raise ValueError(f"{text} is more than the 1024GiB that a size may be")
    return size


def _more_than_nothing(value: float) -> float:
    if value <= 0:
        raise ValueError("must be more than 0")
    return value


def checked_text(text: str) -> str:
    """`text`, when there is something in it and no control characters are."""
    if not text.strip():
        raise ValueError("is empty")
    if CONTROL.search(text):
        raise ValueError("contains a control character")
    return text


def host_of(text: str) -> str:
    """A host name or address as in a URL (`[v6]` with its brackets) → without brackets."""
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(IPv6Address(text[1:-1]))
        except ValueError:
            raise ValueError(f"{text} is not an IPv6 address in brackets") from None
    if re.fullmatch(r"[0-9.]+", text):
        try:
            return str(IPv4Address(text))
        except ValueError:
            raise ValueError(f"{text} is not an IPv4 address") from None
    if len(text) > 253 or not HOSTNAME.fullmatch(text):
        raise ValueError(f"{text!r} is neither a host name nor an address")
    return text


def port_of(text: str) -> int:
    """Digits → 0…65535."""
    port = int(text)
    if port > 65535:
        raise ValueError(f"{port} is not a port: they end at 65535")
    return port


@dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen: host and port, or the name of a socket that systemd passes (then host is "" and port 0)."""

    host: str
    port: int
    fd_name: str | None = None

    def __str__(self) -> str:
        if self.fd_name is not None:
            return f"fd:{self.fd_name}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost counts as reachable from outside."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_bind(value: object) -> Bind:
    """`host:port`, `[v6]:port` or `fd:NAME`."""
    if isinstance(value, Bind):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError("must be host:port, such as 127.0.0.1:8443; quote it where YAML reads a number")  # noqa: TRY004
    text = _text(value, "127.0.0.1:8443")
    if text.startswith("fd:"):
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,255}", text[3:]):
            raise ValueError(f"{text!r} does not name a socket: write fd:NAME, as in systemd's FileDescriptorName=")
        return Bind("", 0, text[3:])
    found = _BIND.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not an address to listen on: write host:port, [v6]:port or fd:NAME")
    if not found[1]:
        raise ValueError(f"{text!r} names no host: write 0.0.0.0{text} or [::]{text} for every address of this machine")
    return Bind(host_of(found[1]), port_of(found[2]))


def parse_path(value: object, info: ValidationInfo) -> Path:
    """A file name → absolute, against the folder given as `context={"folder": Path}` (the configuration file's)."""
    text = str(value) if isinstance(value, Path) else _text(value, "certs/ca.pem")
    checked_text(text)
    if text.startswith("~"):
        raise ValueError(f"{text!r}: ~ is not expanded; write the folder out, or use ${{HOME}}")
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / text


def parse_network(value: object) -> Network:
    """An address or CIDR → network; one with host bits set is refused (which of the two was meant?)."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = _text(value, "192.0.2.0/24")
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not an address or a network such as 192.0.2.0/24") from None
    raise ValueError(f"{text} has bits set outside its prefix: write {meant} for the network")


def parse_instant(value: object) -> datetime:
    """RFC 3339 with its zone → aware UTC."""
    if isinstance(value, datetime):
        moment = value
    else:
        text = _text(value, "2030-01-31T00:00:00Z")
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a date and time such as 2030-01-31T00:00:00Z (RFC 3339)") from None
    if moment.tzinfo is None:
        raise ValueError("needs a zone: end it in Z (UTC) or an offset such as +02:00")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value} is outside the years 1 to 9999") from None


def off_for_false(value: Any) -> Any:
    """YAML 1.1 reads `off` and `no` as false; where `off` is a value, that is what was meant."""
    return "off" if value is False or value == "no" else value


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", text):
        raise ValueError(
            f"{text!r} is not a name: up to 100 letters, digits, `_`, `-` and `.`, the first a letter or digit"
        )
    return text


_DURATION_SCHEMA = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "examples": ["250ms", "10s", "5m"]}
_SIZE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)?$"}]}

Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
PositiveDuration = Annotated[
    float, BeforeValidator(parse_duration), AfterValidator(_more_than_nothing), WithJsonSchema(_DURATION_SCHEMA)
]
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(_SIZE_SCHEMA)]
PositiveSize = Annotated[
    int, BeforeValidator(parse_size), AfterValidator(_more_than_nothing), WithJsonSchema(_SIZE_SCHEMA)
]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
PositiveCount = Annotated[int, Field(ge=1, le=1_000_000_000)]
Text = Annotated[str, AfterValidator(checked_text), WithJsonSchema({"type": "string", "minLength": 1})]
Name = Annotated[
    str,
    AfterValidator(_name),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"}),
]
Address = Annotated[
    Bind, BeforeValidator(parse_bind), WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8443", "[::1]:8443"]})
]
FileName = Annotated[Path, BeforeValidator(parse_path), WithJsonSchema({"type": "string", "minLength": 1})]
Cidr = Annotated[
    Network, BeforeValidator(parse_network), WithJsonSchema({"type": "string", "examples": ["192.0.2.0/24"]})
]
Instant = Annotated[datetime, BeforeValidator(parse_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
