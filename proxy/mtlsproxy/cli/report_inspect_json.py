"""What `inspect` found, for programs."""

from collections.abc import Iterable
from datetime import datetime

from mtlsproxy.anatomy.algorithms import signature_name
from mtlsproxy.anatomy.extensions import validation_of
from mtlsproxy.anatomy.items import CertificateItem, Contents, CrlItem, Item, KeyItem, OtherItem, RequestItem, Shown
from mtlsproxy.anatomy.lifetime import life_of
from mtlsproxy.anatomy.relations import Relations
from mtlsproxy.anatomy.roles import notes_on, role_of
from mtlsproxy.cli.report import days_left, moment
from mtlsproxy.x509.certificate import serial_hex
from mtlsproxy.x509.checks import eku_name

Json = dict[str, object]


def as_json(contents: Contents, relations: Relations, at: datetime) -> Json:
    """`number` of an item is what other items refer to it by."""
    return {
        "ok": not contents.problems,
        "items": [_item(number, item, relations, at) for number, item in enumerate(contents.items, 1)],
        "orders": [
            {"file": o.file, "numbers": o.numbers, "best": o.best, "detail": o.detail} for o in relations.orders
        ],
        "errors": [
            {"file": p.file, "line": p.line, "column": None, "path": None, "message": p.message}
            for p in contents.problems
        ],
    }


def _item(number: int, item: Item, relations: Relations, at: datetime) -> Json:
    origin = item.origin
    where: Json = {
        "number": number,
        "type": _TYPES[type(item)],
        "file": origin.file,
        "line": origin.line,
        "inside": origin.inside or None,
        "friendly_name": origin.name or None,
    }
    if isinstance(item, CertificateItem):
        return where | _certificate(number, item, relations, at)
    if isinstance(item, RequestItem):
        return where | _request(number, item, relations)
    if isinstance(item, CrlItem):
        return where | _crl(number, item, relations, at)
    if isinstance(item, KeyItem):
        return where | _key(number, item, relations)
    return where | {"label": item.label}


_TYPES: dict[type, str] = {
    CertificateItem: "certificate",
    RequestItem: "request",
    CrlItem: "crl",
    KeyItem: "key",
    OtherItem: "other",
}


def _certificate(number: int, item: CertificateItem, relations: Relations, at: datetime) -> Json:
    found = item.certificate
    _, expiry = life_of(found.not_before, found.not_after, at)
    level = validation_of(found.certificate_policies)
    return {
        "role": role_of(found),
        "subject": found.subject,
        "issuer": found.issuer,
        "serial": serial_hex(found.serial),
        "not_before": moment(found.not_before),
        "not_after": moment(found.not_after),
        "days_left": days_left(found.not_after, at),
        "expiry": expiry,
        "names": [f"{kind}:{name}" for kind, name in found.sans.ordered],
        "key": found.key_name,
        "private_key": relations.key_of.get(number),
        "request": relations.request_of.get(number),
        "is_ca": bool(found.is_ca),
        "path_length": found.path_length,
        "key_usage": None if found.key_usage is None else sorted(found.key_usage),
        "extended_key_usage": None if found.extended_key_usage is None else [*map(eku_name, found.extended_key_usage)],
        "policies": list(found.certificate_policies),
        "validation": level.short if level else None,
        "ocsp_urls": list(found.ocsp_urls),
        "crl_urls": list(found.crl_urls),
        "ca_issuer_urls": list(found.ca_issuer_urls),
        "signature": _signature(number, signature_name(found.signature_algorithm), relations),
        "revoked": [{"crl": o.crl, "at": moment(o.at), "reason": o.reason} for o in relations.revoked[number]],
        "fingerprint_sha256": found.fingerprint_sha256,
        "spki_sha256": found.spki_sha256,
        "same_as": relations.same_as.get(number),
        "extensions": _extensions(item.extensions),
        "notes": list(notes_on(found)),
    }


def _signature(number: int, algorithm: str, relations: Relations) -> Json:
    found = relations.signatures[number]
    return {"algorithm": algorithm, "result": found.proof, "by": found.by, "detail": found.detail}


def _extensions(extensions: Iterable[Shown]) -> list[Json]:
    return [{"name": s.name, "oid": s.oid, "critical": s.critical, "values": list(s.values)} for s in extensions]


def _request(number: int, item: RequestItem, relations: Relations) -> Json:
    names = next((list(s.values) for s in item.extensions if s.oid == "2.5.29.17"), [])
    return {
        "subject": item.subject,
        "names": names,
        "key": item.key_name,
        "private_key": relations.key_of.get(number),
        "signature": {"algorithm": item.signature_algorithm, "result": _OWN[item.self_signed]},
        "fingerprint_sha256": item.fingerprint_sha256,
        "spki_sha256": item.spki,
        "extensions": _extensions(item.extensions),
    }


_OWN = {True: "verified", False: "wrong", None: "unsupported"}


def _crl(number: int, item: CrlItem, relations: Relations, at: datetime) -> Json:
    crl = item.crl
    expiry = None if crl.next_update is None else life_of(crl.this_update, crl.next_update, at)[1]
    return {
        "issuer": crl.issuer,
        "crl_number": crl.number,
        "base_number": crl.base_number,
        "this_update": moment(crl.this_update),
        "next_update": None if crl.next_update is None else moment(crl.next_update),
        "expiry": expiry,
        "scope": crl.scope,
        "urls": sorted(crl.urls),
        "delta_urls": list(crl.freshest_urls),
        "entries": crl.entries,
        "first_entries": [
            {"serial": serial_hex(one.serial), "at": moment(one.at), "reason": one.reason} for one in item.first
        ],
        "signature": _signature(number, item.signature_algorithm, relations),
        "fingerprint_sha256": crl.sha256,
    }


def _key(number: int, item: KeyItem, relations: Relations) -> Json:
    return {
        "kind": item.kind,
        "form": item.form,
        "encrypted": item.encrypted,
        "key": item.key_name,
        "spki_sha256": item.spki,
        "belongs_to": list(relations.owners.get(number, ())),
    }
