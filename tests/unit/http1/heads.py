"""Request heads for these tests: limits, rules with the default identity, and a parser for one head."""

from dataclasses import dataclass

from mtlsproxy.http1.fields import FieldRules, request_rules
from mtlsproxy.http1.request_head import HeadLimits, RequestHead, RequestHeadParser
from mtlsproxy.identity.strip import StripRules

LIMITS = HeadLimits(request_line=8192, header_field=16384, headers=65536, header_count=100)


@dataclass(frozen=True)
class _Prefix:
    prefix: str


def rules() -> FieldRules:
    return request_rules(StripRules([_Prefix("X-Client-")]).strips)


def parser(limits: HeadLimits = LIMITS) -> RequestHeadParser:
    return RequestHeadParser(limits, rules())


def parse(data: bytes, limits: HeadLimits = LIMITS) -> RequestHead:
    return parser(limits).parse(data)


def head(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"example.test") -> bytes:
    """The bytes of a request's head."""
    hosts = [] if host is None else [b"Host: " + host]
    return b"\r\n".join([line, *hosts, *lines]) + b"\r\n\r\n"


def fields_of(request: RequestHead) -> list[tuple[bytes, bytes]]:
    """What passes on: names and values."""
    return list(zip(request.fields[0::4], request.fields[2::4], strict=True))
