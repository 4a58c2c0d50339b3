"""The admin's bearer token: read from its file, kept as a hash, compared in constant time."""

import hashlib
import hmac
import re
from pathlib import Path

from mtlsproxy.tls.permissions import exposed

MINIMUM = 16
"""Characters. What keeps guesses out is this and nothing else: 16 random ones are 95 bits."""

MAXIMUM = 4096

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750 §2.1: what can follow `Bearer`."""


class TokenError(Exception):
    """No token can be had from the file; `detail` is one sentence."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Token:
    """One token. The text itself is not kept, so that no log and no dump can show it."""

    __slots__ = ("_digest",)

    def __init__(self, text: str) -> None:
        """Raises TokenError: too short, or not what a header can carry."""
        if not _TOKEN.fullmatch(text):
            raise TokenError(
                "must be one line of letters, digits and -._~+/ (RFC 6750): openssl rand -hex 32 makes one"
            )
        if len(text) < MINIMUM:
            raise TokenError(f"has {len(text)} characters: at least {MINIMUM}, drawn at random (openssl rand -hex 32)")
        self._digest = _digest(text.encode())

    def matches(self, presented: bytes) -> bool:
        """In a time that says nothing of the token, its length included."""
        return hmac.compare_digest(_digest(presented), self._digest)


def read_token(file: Path) -> tuple[Token, list[str]]:
    """The token, and warnings about the file. Raises TokenError."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAXIMUM + 1)
        warnings = exposed(file, "token")
    except OSError as error:
        raise TokenError(f"cannot read {file}: {error.strerror}") from error
    if len(data) > MAXIMUM:
        raise TokenError(f"{file} is larger than the {MAXIMUM} bytes that a token may have")
    try:
        token = Token(data.decode("ascii").strip())
    except UnicodeDecodeError:
        raise TokenError(f"the token in {file} is not ASCII") from None
    except TokenError as error:
        raise TokenError(f"the token in {file} {error.detail}") from None
    return token, warnings


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
