"""CRLs as a server would give them out, around any time."""

from datetime import datetime, timedelta

from tests.unit.revocation.build import Authority, assemble, crl_number, entry, key_identifier

from mtlsproxy.revocation.crl import Crl, parse_crl

HOUR = timedelta(hours=1)


def list_of(
    issuer: Authority,
    *serials: int,
    at: datetime,
    number: int | None = 1,
    age: timedelta = HOUR,
    lasts: timedelta | None = 24 * HOUR,
    extensions: tuple[bytes, ...] = (),
    key_id: bool = True,
) -> bytes:
    """DER, issued `age` before `at`, ending `lasts` after it."""
    ours = (() if number is None else (crl_number(number),)) + ((key_identifier(issuer),) if key_id else ())
    return assemble(
        issuer,
        b"".join(entry(serial, at - HOUR) for serial in serials) or None,
        this_update=at - age,
        next_update=None if lasts is None else at + lasts,
        extensions=(*ours, *extensions),
    )


def parsed(issuer: Authority, *serials: int, **options: object) -> Crl:
    return parse_crl(list_of(issuer, *serials, **options), "http://crl.example/a.crl")
