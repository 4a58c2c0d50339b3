"""CRLs as a server would give them out, around any time."""

from datetime import datetime, timedelta

from tests.unit.revocation.build import Authority, assemble, crl_number, entry, key_identifier, reason

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
    held: tuple[int, ...] = (),
    lifted: tuple[int, ...] = (),
) -> bytes:
    """DER, issued `age` before `at`, ending `lasts` after it. held, lifted: entries certificateHold, removeFromCRL."""
    ours = (() if number is None else (crl_number(number),)) + ((key_identifier(issuer),) if key_id else ())
    return assemble(
        issuer,
        b"".join(
            [entry(serial, at - HOUR) for serial in serials]
            + [entry(serial, at - HOUR, reason(6)) for serial in held]
            + [entry(serial, at - HOUR, reason(8)) for serial in lifted]
        )
        or None,
        this_update=at - age,
        next_update=None if lasts is None else at + lasts,
        extensions=(*ours, *extensions),
    )


def parsed(issuer: Authority, *serials: int, **options: object) -> Crl:
    return parse_crl(list_of(issuer, *serials, **options), "http://crl.example/a.crl")
