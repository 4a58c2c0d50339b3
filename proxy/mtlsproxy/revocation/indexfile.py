"""A parsed CRL as a file: one process parses and writes it, any number map it and look up without parsing again.

Layout: MAGIC, version, octets of the description, its SHA-256 (48 octets in all); the description (JSON); the sections,
each on an 8-octet boundary, which hold the columns of `SerialIndex` and, for EdDSA, the signed bytes. Columns are in
the byte order of the host: a file is made and used on one host, and another's is refused.

The description is covered by its digest at every load. The sections are covered by theirs only in `check_sections`,
which reads them whole: call it where a file was not just written (at a start), not where it is mapped.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import Struct
from types import MappingProxyType
from typing import Any

from mtlsproxy.revocation.crl import Crl, Scope
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.revocation.index import MAX_REST, MAX_WIDE, SerialIndex
from mtlsproxy.revocation.signature import Signature, signature_from, signature_state

__all__ = ["MAGIC", "VERSION", "check_sections", "dump", "load"]

MAGIC = b"mtlsCRLi"
VERSION = 1

_HEADER = Struct("<8sII32s")
_ALIGNMENT = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def dump(crl: Crl) -> Iterable[bytes | memoryview]:
    """The pieces of the file of `crl`, in their order. Raises CrlError for a signature that could never verify."""
    state, signed = signature_state(crl.signature)
    sections = [("low", crl.index.low), ("rest", crl.index.rest), ("facts", crl.index.facts)]
    sections += [("starts", crl.index.starts), ("signed", memoryview(signed))]
    octets = [(name, column.cast("B") if column.nbytes else memoryview(b"")) for name, column in sections]
    description = json.dumps(
        {
            "byte_order": sys.byteorder,
            "crl": _described(crl),
            "signature": state,
            "rest_width": crl.index.rest_width,
            "shift": crl.index.shift,
            "starts_sha256": sha256(crl.index.starts).hexdigest(),
            "wide": [[f"{serial:x}", fact] for serial, fact in crl.index.wide.items()],
            "sections": [[name, column.nbytes] for name, column in octets],
            "sha256": _digest(column for _, column in octets),
        },
        separators=(",", ":"),
    ).encode()
    yield _HEADER.pack(MAGIC, VERSION, len(description), sha256(description).digest())
    yield description
    at = _HEADER.size + len(description)
    for _, column in octets:
        yield bytes(-at % _ALIGNMENT)
        yield column
        at += -at % _ALIGNMENT + column.nbytes


def load(view: memoryview) -> Crl:
    """The CRL in `view`, the whole of a mapped file, which the CRL keeps in use. No entry is read.

    Raises CrlError for anything but such a file: garbage, another version or byte order, too short, too long.
    """
    description, sections = _open(view)
    try:
        return _crl(description, sections)
    except _MALFORMED as error:
        raise CrlError(f"this is no CRL index: its description is malformed ({error})") from error


def check_sections(view: memoryview) -> None:
    """Read the file in `view` whole and return when it is as it was written; else raise CrlError."""
    description, sections = _open(view)
    if _digest(sections.values()) != description.get("sha256"):
        raise CrlError("the CRL index was altered after it was written: its digest differs")


def _digest(columns: Iterable[memoryview]) -> str:
    digest = sha256()
    for column in columns:
        digest.update(column)
    return digest.hexdigest()


def _open(view: memoryview) -> tuple[dict[str, Any], dict[str, memoryview]]:
    """The description and the sections, in octets."""
    view = view.toreadonly().cast("B") if view.nbytes else view
    if view.nbytes < _HEADER.size:
        raise CrlError(f"{view.nbytes} octets are no CRL index")
    magic, version, size, digest = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise CrlError("this is no CRL index: it begins with other octets")
    if version != VERSION:
        raise CrlError(f"this CRL index has the version {version}; only {VERSION} is read")
    text = bytes(view[_HEADER.size : _HEADER.size + size])
    if len(text) != size or sha256(text).digest() != digest:
        raise CrlError("the CRL index is cut short or was altered: the digest of its description differs")
    try:
        description = json.loads(text)
        if description["byte_order"] != sys.byteorder:
            raise CrlError(f"this CRL index was made on a host of another byte order, {description['byte_order']}")
        return description, dict(_sections(view, _HEADER.size + size, description["sections"]))
    except _MALFORMED as error:
        raise CrlError(f"this is no CRL index: its description is malformed ({error})") from error


def _sections(view: memoryview, at: int, table: Iterable[tuple[str, int]]) -> Iterator[tuple[str, memoryview]]:
    for name, size in table:
        at += -at % _ALIGNMENT
        if size < 0 or at + size > view.nbytes:
            raise CrlError(f"the CRL index is cut short: its section {name} is incomplete")
        yield name, view[at : at + size]
        at += size
    if at != view.nbytes:
        raise CrlError(f"{view.nbytes - at} octets follow the CRL index")


def _described(crl: Crl) -> dict[str, Any]:
    return {
        "source": crl.source,
        "size": crl.size,
        "sha256": crl.sha256,
        "issuer": crl.issuer,
        "issuer_der": crl.issuer_der.hex(),
        "authority_key_id": None if crl.authority_key_id is None else crl.authority_key_id.hex(),
        "number": None if crl.number is None else f"{crl.number:x}",
        "base_number": None if crl.base_number is None else f"{crl.base_number:x}",
        "this_update": _seconds(crl.this_update),
        "next_update": None if crl.next_update is None else _seconds(crl.next_update),
        "scope": crl.scope.value,
        "urls": sorted(crl.urls),
        "freshest_urls": list(crl.freshest_urls),
    }


def _crl(description: Mapping[str, Any], sections: Mapping[str, memoryview]) -> Crl:
    crl = description["crl"]
    return Crl(
        source=crl["source"],
        size=crl["size"],
        sha256=crl["sha256"],
        issuer=crl["issuer"],
        issuer_der=bytes.fromhex(crl["issuer_der"]),
        authority_key_id=None if crl["authority_key_id"] is None else bytes.fromhex(crl["authority_key_id"]),
        number=None if crl["number"] is None else int(crl["number"], 16),
        base_number=None if crl["base_number"] is None else int(crl["base_number"], 16),
        this_update=_moment(crl["this_update"]),
        next_update=None if crl["next_update"] is None else _moment(crl["next_update"]),
        scope=Scope(crl["scope"]),
        urls=frozenset(crl["urls"]),
        freshest_urls=tuple(crl["freshest_urls"]),
        index=_index(description, sections),
        signature=_signature(description, sections),
    )


def _signature(description: Mapping[str, Any], sections: Mapping[str, memoryview]) -> Signature:
    return signature_from(description["signature"], sections["signed"])


def _index(description: Mapping[str, Any], sections: Mapping[str, memoryview]) -> SerialIndex:
    low, rest, facts = sections["low"].cast("Q"), sections["rest"], sections["facts"].cast("q")
    starts, width, rows = sections["starts"].cast("Q"), description["rest_width"], len(low)
    whole = width in range(MAX_REST + 1) and len(facts) == rows and len(rest) == rows * width
    # A look-up goes where `starts` sends it: that column is checked at every load, and is small.
    if not whole or sha256(starts).hexdigest() != description["starts_sha256"]:
        raise CrlError("this is no CRL index: its columns do not fit together")
    if len(description["wide"]) > MAX_WIDE:
        raise CrlError("this is no CRL index: it has too many long serial numbers")
    wide = {int(serial, 16): fact for serial, fact in description["wide"]}
    return SerialIndex(low, rest, width, facts, starts, description["shift"], MappingProxyType(wide))


def _seconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(seconds=1)  # ASN.1 times have whole seconds; exact beyond float's


def _moment(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
