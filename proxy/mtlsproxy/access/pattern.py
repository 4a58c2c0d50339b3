r"""The pattern language of matchers: `*` is one label or path segment, `**` any number of them, none included.

A pattern has two uses, which must err on different sides. In `allow` a wildcard stands only for what a well-formed name
has there: no `*` of a wildcard certificate, no dot segment, no port or user. In `deny` it stands for anything, so that
an odd spelling does not slip through.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

Test = Callable[[str], bool]
"""Of one value of the certificate, as it is there."""


class Use(Enum):
    """Which way a pattern errs where a certificate is odd."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern. tokens: what every matching value has among its own tokens (see the *_tokens functions)."""

    test: Test
    tokens: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Wildcards:
    label: str
    segment: str
    rest_segment: str
    text: str
    local_part: str


_DOT_SEGMENT = r"(?!(?:\.|%2[eE]){1,2}(?:/|\Z))"
_WILDCARDS = {
    Use.ALLOW: _Wildcards(
        label="[a-z0-9_-]+",
        segment=_DOT_SEGMENT + "[^/?#*]+",
        rest_segment=_DOT_SEGMENT + "[^/?#*]*",
        text="[^./*]+",
        local_part="[^@*]+",
    ),
    Use.DENY: _Wildcards(label="[^./]*", segment="[^/]*", rest_segment="[^/]*", text="[^./]*", local_part="[^@]*"),
}
_STARS = re.compile(r"(\*\*?)")
_SEPARATORS = re.compile(r"[./]")


def dns_canonical(name: str) -> str:
    """Lower-case, without the root's dot, with a dot in front, so that every label has one (RFC 4343: no case)."""
    return "." + name.lower().removesuffix(".")


def uri_canonical(uri: str) -> str:
    """Scheme and host lower-case (RFC 3986 §6.2.2.1), a dot before the host, all the rest as it is."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        scheme, separator, rest = uri.partition(":")
        return scheme.lower() + separator + rest
    end = next((index for index, character in enumerate(rest) if character in "/?#"), len(rest))
    userinfo, at, host = rest[:end].rpartition("@")
    return f"{scheme.lower()}://{userinfo}{at}.{host.lower()}{rest[end:]}"


def email_canonical(address: str) -> str:
    """The local part as it is, the domain like a DNS name (RFC 5280 §7.5)."""
    local, at, domain = address.rpartition("@")
    return local + at + dns_canonical(domain)


def tokens_of(canonical: str) -> frozenset[str]:
    """The labels and segments of a canonical value."""
    return frozenset(_SEPARATORS.split(canonical))


def dns_pattern(pattern: str, use: Use) -> Pattern:
    """Of a dNSName."""
    canonical = dns_canonical(pattern)
    return _compiled(canonical, _labels(canonical, _WILDCARDS[use]), dns_canonical)


def email_pattern(pattern: str, use: Use) -> Pattern:
    """Of an rfc822Name; in the local part both wildcards are any run of characters."""
    wildcards = _WILDCARDS[use]
    local, _, domain = pattern.rpartition("@")
    source = _run(local, wildcards.local_part, wildcards.local_part) + "@" + _labels(dns_canonical(domain), wildcards)
    return _compiled(email_canonical(pattern), source, email_canonical)


def uri_pattern(pattern: str, use: Use) -> Pattern:
    """Of a uniformResourceIdentifier: labels in the host, segments after it."""
    wildcards = _WILDCARDS[use]
    canonical = uri_canonical(pattern)
    scheme, separator, rest = canonical.partition("://")
    if not separator:
        return _compiled(canonical, _run(canonical, "[^/:?#*]+", "[^?#*]*"), uri_canonical)
    authority, *segments = rest.split("/")
    userinfo, at, host = authority.rpartition("@")
    source = re.escape(scheme + separator + userinfo + at) + _labels(host, wildcards)
    source += "".join(_segment(segment, wildcards) for segment in segments)
    return _compiled(canonical, source, uri_canonical)


def text_pattern(pattern: str, use: Use) -> Pattern:
    """Of a subject attribute: `*` is a run without `.` and `/`, `**` any run. In deny, case does not count (X.520)."""
    tokens = _literal_tokens(pattern.casefold())
    if use is Use.ALLOW:
        exactly = re.compile(_run(pattern, _WILDCARDS[use].text, "[^*]*"), re.DOTALL)
        return Pattern(lambda value: exactly.fullmatch(value) is not None, tokens)
    roughly = re.compile(_run(pattern.casefold(), _WILDCARDS[use].text, ".*"), re.DOTALL)
    return Pattern(lambda value: roughly.fullmatch(value.casefold()) is not None, tokens)


def _compiled(canonical: str, source: str, canonical_of: Callable[[str], str]) -> Pattern:
    tokens = _literal_tokens(canonical)
    if "*" not in canonical:
        return Pattern(lambda value: canonical_of(value) == canonical, tokens)
    compiled = re.compile(source, re.DOTALL)
    return Pattern(lambda value: compiled.fullmatch(canonical_of(value)) is not None, tokens)


def _literal_tokens(canonical: str) -> frozenset[str]:
    # A wildcard can stand for separators but not take one away: a literal between two of them is whole in values too.
    return frozenset(token for token in tokens_of(canonical) if token and "*" not in token)


def _labels(canonical: str, wildcards: _Wildcards) -> str:
    return "".join(_label(label, wildcards) for label in canonical.split(".")[1:])


def _label(label: str, wildcards: _Wildcards) -> str:
    if label == "**":
        return rf"(?:\.{wildcards.label})*"
    return r"\." + _run(label, wildcards.label, wildcards.label)


def _segment(segment: str, wildcards: _Wildcards) -> str:
    if segment == "**":
        return f"(?:/{wildcards.rest_segment})*"
    return "/" + (wildcards.segment if segment == "*" else _run(segment, "[^/?#*]+", "[^/?#*]+"))


def _run(text: str, star: str, stars: str) -> str:
    parts = (star if part == "*" else stars if part == "**" else re.escape(part) for part in _STARS.split(text))
    return "".join(parts)
