"""PEM blocks (RFC 7468) with the lines that they stand on, so that what is wrong can be found in an editor."""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 #.]{1,64})-----")
_BASE64_LINE = re.compile(rb"[A-Za-z0-9+/=]*")
_SHOWN = 40


class BadBlock(ValueError):
    """A block that is no PEM. `line` counts from 1."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(detail)
        self.line = line
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Block:
    """label: as in BEGIN CERTIFICATE. line: of BEGIN, from 1. text: from BEGIN to END, as it stands."""

    label: str
    line: int
    text: bytes

    @property
    def is_legacy_encrypted(self) -> bool:
        """Encrypted by the headers of RFC 1421, as OpenSSL's old key files are."""
        return b"\nProc-Type: 4,ENCRYPTED" in self.text.replace(b"\r", b"\n")

    def der(self) -> bytes:
        """What is in it. Raises BadBlock for what is not base64, with the line that is not."""
        lines = self.text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        body = [line.strip() for line in lines[1:-1]]
        for number, line in enumerate(body, self.line + 1):
            if not _BASE64_LINE.fullmatch(line):
                seen = line[:_SHOWN].decode("latin-1")
                raise BadBlock(number, f"a line of base64 was expected in this {self.label}, but there is {seen!r}")
        try:
            return binascii.a2b_base64(b"".join(body), strict_mode=True)
        except binascii.Error as error:
            raise BadBlock(
                self.line, f"this {self.label} is not base64 ({error}): a part of it may be missing"
            ) from error


def is_pem(data: bytes) -> bool:
    return _BEGIN.search(data) is not None


def blocks(data: bytes) -> Iterator[Block | BadBlock]:
    """Every block, in the file's order; text around them is passed over (RFC 7468 §2)."""
    at, line = 0, 1
    while (begin := _BEGIN.search(data, at)) is not None:
        line += _lines(data, at, begin.start())
        at = begin.start()
        label = begin[1].decode("ascii")
        ends = b"-----END " + begin[1] + b"-----"
        following = _BEGIN.search(data, begin.end())
        stop = following.start() if following is not None else len(data)
        end = data.find(ends, begin.end(), stop)  # no further: each byte of a hostile file is looked at once
        if end < 0:
            yield BadBlock(line, f"BEGIN {label} has no END {label}: the file was cut short, or a line is missing")
        else:
            stop = end + len(ends)
            yield Block(label, line, data[at:stop])
        line += _lines(data, at, stop)
        at = stop


def _lines(data: bytes, start: int, stop: int) -> int:
    """Line ends between the offsets: of Unix, of Windows, of old Macs."""
    part = data[start:stop]
    return part.count(b"\n") or part.count(b"\r")
