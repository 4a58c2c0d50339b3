"""How much work a file asks for before anything of it can be read.

A password is stretched by as many rounds as the file says: two thousand million of them keep a processor for minutes,
in one call that nothing interrupts.
"""

from mtlsproxy.x509 import der

MOST_ROUNDS = 10_000_000
"""Some seconds. Usual are two thousand to two million."""

MOST_ELEMENTS = 100_000
"""Of DER. Bundles of hundreds of certificates, which are one element each, have fewer."""

_CONSTRUCTED = 0x20


class TooMuchWork(ValueError):
    """Says of what there is too much."""


def require_modest(data: bytes) -> None:
    """Of PKCS#12 and encrypted keys in DER, as far as nothing is encrypted around it. Raises TooMuchWork.

    PBKDF2-params (RFC 8018 §A.2), pkcs-12PbeParams, MacData (RFC 7292 §4, §C) and scrypt-params (RFC 7914 §7) all have
    the salt, an OCTET STRING, and behind it the rounds, an INTEGER.
    """
    seen, inside = 0, [(0, len(data))]
    while inside:
        at, end = inside.pop()
        before = None
        try:
            while at < end:
                tag, start, after = der.read(data, at, end)
                seen += 1
                if seen > MOST_ELEMENTS:
                    raise TooMuchWork(f"it has more than {MOST_ELEMENTS} elements")
                if tag == der.INTEGER and before == der.OCTET_STRING:
                    _require_few(data[start:after])
                if tag & _CONSTRUCTED or (tag == der.OCTET_STRING and data[start : start + 1] == b"\x30"):
                    inside.append((start, after))
                at, before = after, tag
        except der.DerError:
            continue  # bytes that only begin like DER, such as a salt; or a damaged file, which its parser refuses


def _require_few(rounds: bytes) -> None:
    if int.from_bytes(rounds[:16], "big") > MOST_ROUNDS:
        raise TooMuchWork(f"its password is stretched by more than {MOST_ROUNDS} rounds")
