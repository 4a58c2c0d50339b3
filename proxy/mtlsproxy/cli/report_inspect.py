"""How what `inspect` found looks: in words, and as JSON."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from rich.text import Text
from rich.tree import Tree

from mtlsproxy.anatomy.algorithms import signature_name
from mtlsproxy.anatomy.extensions import Validation, validation_of
from mtlsproxy.anatomy.items import CertificateItem, Contents, CrlItem, Item, KeyItem, Origin, RequestItem, Shown
from mtlsproxy.anatomy.lifetime import SOON_FOR_LISTS, Life, life_of
from mtlsproxy.anatomy.relations import Proof, Relations, relate
from mtlsproxy.anatomy.roles import notes_on, role_of
from mtlsproxy.cli.report import line, moment, print_json, print_tree, text, tree
from mtlsproxy.x509.certificate import serial_hex

SHOWN_ENTRIES = 10
"""Entries of a CRL in text; JSON has more."""

_LIVES = {Life.OVER: "bold red", Life.NOT_YET: "bold red", Life.SOON: "bold yellow", Life.GOOD: "green"}
_PROOFS = {Proof.VERIFIED: "green", Proof.SELF_SIGNED: "green", Proof.WRONG: "bold red"}


def print_contents(contents: Contents, at: datetime, output_format: str) -> None:
    """at: aware UTC, against which ends are told."""
    relations = relate(contents)
    if output_format == "json":
        from mtlsproxy.cli.report_inspect_json import as_json

        print_json(as_json(contents, relations, at))
        return
    parts: list[Tree | Text] = [_item(n, item, relations, at) for n, item in enumerate(contents.items, 1)]
    signed = _who_signed_what(contents, relations)
    orders = [line((order.file, "bold"), order.detail) for order in relations.orders]
    print_tree(
        *parts, *([signed] if signed else []), *([tree(text("order of certificates"), orders)] if orders else [])
    )


def _item(number: int, item: Item, relations: Relations, at: datetime) -> Tree:
    if isinstance(item, CertificateItem):
        return _certificate(number, item, relations, at)
    if isinstance(item, RequestItem):
        return _request(number, item, relations)
    if isinstance(item, CrlItem):
        return _crl(number, item, relations, at)
    if isinstance(item, KeyItem):
        return _key(number, item, relations)
    return tree(_title(number, item.label, item.origin))


def _title(number: int, what: str, origin: Origin, *more: tuple[str, str]) -> Text:
    where = origin.file if origin.line is None else f"{origin.file}:{origin.line}"
    inside = f"in {origin.inside}" if origin.inside else ""
    name = f"called {origin.name!r}" if origin.name else ""
    return line((str(number), "bold"), (what, "bold"), *more, (f"{where} {inside} {name}".strip(), "dim"))


def _row(label: str, value: str, style: str = "") -> Text:
    return line((label, "dim"), (value, style))


# -- certificates and requests ----------------------------------------------------------------------------------------


def _certificate(number: int, item: CertificateItem, relations: Relations, at: datetime) -> Tree:
    found = item.certificate
    life, words = life_of(found.not_before, found.not_after, at)
    proof = relations.signatures[number]
    rows: list[Text | Tree] = [
        _row("subject", found.subject or "(empty)", "bold"),
        _row("issuer", found.issuer or "(empty)"),
        _row("serial", serial_hex(found.serial)),
        line(("valid", "dim"), f"{moment(found.not_before)} to {moment(found.not_after)},", (words, _LIVES[life])),
        line(("key", "dim"), found.key_name, *_private_key(number, relations)),
        line(("signature", "dim"), f"{_algorithm(item)},", (proof.detail, _PROOFS.get(proof.proof, "yellow"))),
        *_validation(validation_of(found.certificate_policies)),
        *_extensions(item.extensions),
        _row("sha256", found.fingerprint_sha256),
        _row("sha256 of the key", found.spki_sha256),
        *(
            line(("revoked", "bold red"), f"{moment(one.at)} ({one.reason or 'no reason given'}), says {one.crl}")
            for one in relations.revoked[number]
        ),
        *([_row("requested by", str(relations.request_of[number]))] if number in relations.request_of else []),
        *([_row("the same as", str(relations.same_as[number]))] if number in relations.same_as else []),
        *(line(("note", "yellow"), note) for note in notes_on(found)),
    ]
    return tree(_title(number, role_of(found), item.origin), rows)


def _algorithm(item: CertificateItem) -> str:
    return signature_name(item.certificate.signature_algorithm)


def _private_key(number: int, relations: Relations) -> Iterator[tuple[str, str]]:
    if number in relations.key_of:
        yield f"with its private key, {relations.key_of[number]}", "green"


def _validation(level: Validation | None) -> Iterator[Text]:
    if level is not None:
        yield line(("validation", "dim"), (level.short, "bold"), f"- {level.words}")


def _extensions(extensions: Iterable[Shown]) -> Iterator[Text]:
    for shown in extensions:
        label = f"{shown.name} (critical)" if shown.critical else shown.name
        yield _row(label, ", ".join(shown.values) or "(empty)")


def _request(number: int, item: RequestItem, relations: Relations) -> Tree:
    proof = {
        True: ("by its own key, verified: the requester holds it", "green"),
        False: ("wrong: its own key did not make it; it was altered, or is somebody else's", "bold red"),
        None: ("not verified: an algorithm that is not supported here", "yellow"),
    }[item.self_signed]
    rows = [
        _row("subject", item.subject or "(empty)", "bold"),
        line(("key", "dim"), item.key_name, *_private_key(number, relations)),
        line(("signature", "dim"), f"{item.signature_algorithm},", proof),
        *_extensions(item.extensions),
        _row("sha256", item.fingerprint_sha256),
    ]
    return tree(_title(number, "certificate signing request", item.origin), rows)


# -- CRLs and keys ----------------------------------------------------------------------------------------------------


def _crl(number: int, item: CrlItem, relations: Relations, at: datetime) -> Tree:
    crl, proof = item.crl, relations.signatures[number]
    rows: list[Text | Tree] = [
        _row("issuer", crl.issuer or "(empty)", "bold"),
        _row("number", "none" if crl.number is None else str(crl.number)),
    ]
    if crl.next_update is None:
        rows.append(line(("issued", "dim"), moment(crl.this_update), ("without a next update", "yellow")))
    else:
        life, words = life_of(crl.this_update, crl.next_update, at, SOON_FOR_LISTS)
        span = f"{moment(crl.this_update)}, next update {moment(crl.next_update)},"
        rows.append(line(("issued", "dim"), span, (words, _LIVES[life])))
    rows.append(
        line(("signature", "dim"), f"{item.signature_algorithm},", (proof.detail, _PROOFS.get(proof.proof, "yellow")))
    )
    rows += [_row("changes since number", str(crl.base_number))] if crl.is_delta else []
    rows += [_row("only for", f"{crl.scope} certificates")] if crl.scope != "all" else []
    rows += [_row("only for those that name", ", ".join(sorted(crl.urls)))] if crl.urls else []
    rows += [_row("deltas at", ", ".join(crl.freshest_urls))] if crl.freshest_urls else []
    entries = [
        line(serial_hex(one.serial), (moment(one.at), "dim"), one.reason or "") for one in item.first[:SHOWN_ENTRIES]
    ]
    more = crl.entries - len(entries)
    entries += [text(f"and {more} more", "dim")] if more > 0 else []
    rows.append(tree(_row("revoked", str(crl.entries)), entries))
    rows.append(_row("sha256", crl.sha256))
    return tree(_title(number, "delta CRL" if crl.is_delta else "CRL", item.origin), rows)


def _key(number: int, item: KeyItem, relations: Relations) -> Tree:
    locked = ("encrypted", "green") if item.encrypted else ("not encrypted", "yellow")
    rows = [line(("form", "dim"), item.form, *([locked] if item.kind == "private" else []))]
    if item.key_name is None:
        rows.append(line(("note", "yellow"), "give its password with --password-file to see whose it is"))
        return tree(_title(number, "private key", item.origin), rows)
    rows.append(_row("kind", item.key_name))
    if item.kind == "private":
        owners = relations.owners.get(number, ())
        told = ", ".join(map(str, owners)) or "none of the certificates and requests among the files"
        rows.append(_row("belongs to", told, "green" if owners else "yellow"))
    if item.spki is not None:
        rows.append(_row("sha256 of the public key", item.spki))
    return tree(_title(number, f"{item.kind} key", item.origin), rows)


# -- who signed what --------------------------------------------------------------------------------------------------


def _who_signed_what(contents: Contents, relations: Relations) -> Tree | None:
    """From the roots down, where anything signed anything else."""
    items = dict(enumerate(contents.items, 1))
    below: dict[int, list[int]] = {}
    for number, signature in relations.signatures.items():
        if signature.proof is Proof.VERIFIED and signature.by is not None and number not in relations.same_as:
            below.setdefault(signature.by, []).append(number)
    signed = {number for numbers in below.values() for number in numbers}
    tops = [n for n in relations.signatures if n not in signed and n not in relations.same_as and n in below]
    if not tops:
        return None
    grown = tree(text("who signed what"))
    todo = [(grown, top) for top in tops]
    while todo:
        parent, number = todo.pop(0)
        branch = parent.add(_leafy(number, items[number], relations))
        todo += [(branch, child) for child in below.get(number, ())]
    return grown


def _leafy(number: int, item: Item, relations: Relations) -> Text:
    self_signed = "self-signed" if relations.signatures[number].proof is Proof.SELF_SIGNED else ""
    if isinstance(item, CrlItem):
        return line((str(number), "bold"), f"CRL of {item.crl.issuer}")
    assert isinstance(item, CertificateItem)
    return line((str(number), "bold"), item.certificate.subject or "(empty)", (self_signed, "dim"))
