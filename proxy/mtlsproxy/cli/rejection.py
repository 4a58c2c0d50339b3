"""A refusal that the admin remembers: what it says of it, and where a configuration is given, the whole judgement."""

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree

from mtlsproxy.cli import admin_client
from mtlsproxy.cli.inquiry import Asked, Explanation
from mtlsproxy.cli.mends import MENDS, NOT_ABOUT_THE_CLIENT
from mtlsproxy.cli.policy import Request, bare_host
from mtlsproxy.cli.report import BadInput, line, print_json, print_tree, text, tree
from mtlsproxy.cli.report_explain import as_json, certificate_facts, explanation_parts
from mtlsproxy.reasons import Reason
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, parse_certificate

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_BLOCK = re.compile("-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")
_TEXTS = ("method", "path", "host", "listener", "route", "truststore", "detail")
_REPLACED = "\ufffd"
"""Stands in the log for what was no UTF-8."""

Said = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rejection:
    """said: as `/api/rejections/ID` has it. presented: DER, leaf first; None where the admin has let go of it."""

    said: Said
    reason: Reason
    at: datetime
    presented: tuple[bytes, ...] | None

    @property
    def enforced(self) -> bool:
        return self.said.get("enforced") is not False


def fetch_rejection(ident: str, url: str, token_file: Path | None) -> Rejection:
    """Raises BadInput."""
    if _ID.fullmatch(ident) is None:
        raise BadInput(f"--request-id: {ident!r} is not the id of a request")
    try:
        said = admin_client.ask(url, f"/api/rejections/{ident}", admin_client.token_of(token_file))
    except admin_client.NotThere:
        words = "it keeps the latest 500 refusals; with the client's certificate in a file, use --cert"
        raise BadInput(f"the admin at {url} knows no refusal {ident}: {words}") from None
    try:
        at = datetime.fromisoformat(said["time"])
        if at.tzinfo is None or not all(isinstance(said.get(key), str | None) for key in _TEXTS):
            raise ValueError("a time without a zone, or a number where text was expected")
        return Rejection(said, Reason(said["reason"]), at, _presented(said["presented"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{url} does not answer as an admin of mtlsproxy does: {error!r}") from error


def _presented(pem: str | None) -> tuple[bytes, ...] | None:
    if pem is None:
        return None
    return tuple(base64.b64decode("".join(body.split()), validate=True) for body in _BLOCK.findall(pem))


def asked_of(rejection: Rejection) -> Asked:
    """The request that was refused; None for a handshake, and where the log could not keep it as it was."""
    said = rejection.said
    method, path, host = said.get("method"), said.get("path"), bare_host(said.get("host"))
    if not method or not path or host is None or _REPLACED in path:
        return None
    return Request(method, path.encode("utf-8", "surrogateescape"), host)


# -- shown -----------------------------------------------------------------------------------------------------------


def print_rejection(rejection: Rejection, judged: Explanation | None, output_format: str) -> None:
    """judged: by a configuration, as far as there was a chain and one was given."""
    if output_format == "json":
        print_json(_as_json(rejection, judged))
        return
    parts: list[Text | Tree] = [_head(rejection), _recorded(rejection)]
    if judged is not None:
        parts += [Text(), _again(rejection, judged), *explanation_parts(judged)]
    else:
        leaf = _leaf(rejection.presented)
        parts += [certificate_facts(leaf)] if leaf is not None else []
        parts.append(_what_next(rejection))
    print_tree(*parts)


def _as_json(rejection: Rejection, judged: Explanation | None) -> dict[str, object]:
    """As `explain` answers; without a judgement of its own what the admin says, and no checks. recorded: all of it."""
    said, leaf = rejection.said, _leaf(rejection.presented)
    recorded = {"recorded": said | {"mend": MENDS[rejection.reason]}}
    if judged is not None:
        return as_json(judged) | recorded
    known: dict[str, object] = {
        "accepted": not rejection.enforced,
        "reason": rejection.reason,
        "subject": leaf.subject if leaf else said.get("subject"),
        "fingerprint_sha256": said.get("fingerprint"),
        "checks": [],
    }
    copied = {key: said.get(key) for key in ("issuer", "serial", "truststore", "listener", "route")}
    return known | copied | {"at": said["time"], "not_asked": [], "sources": []} | recorded


def _leaf(presented: tuple[bytes, ...] | None) -> Certificate | None:
    try:
        return parse_certificate(presented[0]) if presented else None
    except MalformedCertificate:
        return None  # the reason says so


def _head(rejection: Rejection) -> Text:
    verb = ("refused", "bold red") if rejection.enforced else ("let pass in shadow mode", "bold yellow")
    detail = str(rejection.said.get("detail") or "")
    return line(verb, (rejection.reason, "bold"), f"- {detail}" if detail else "")


def _recorded(rejection: Rejection) -> Tree:
    said = rejection.said
    where = " ".join(f"{key} {said[key]}" for key in ("listener", "route", "truststore") if said.get(key))
    request = f"{said['method']} {said.get('host') or ''}{said.get('path') or ''}" if said.get("method") else ""
    status = f"answered {said['status']}" if said.get("status") else "no HTTP answer"
    rows = [
        ("when", str(said["time"])),
        ("from", f"{said.get('client_ip')} port {said.get('client_port')}"),
        ("where", where),
        ("request", f"{request}, {status}" if request else "none: refused before one was read, or between two"),
        ("fix", MENDS[rejection.reason]),
    ]
    shown = [line((f"{name:8}", "yellow" if name == "fix" else "dim"), value) for name, value in rows if value]
    return tree(text(f"what the proxy recorded of {said.get('request_id')}"), shown)


def _again(rejection: Rejection, judged: Explanation) -> Text:
    """What it means that the configuration, as it is now, says the same or something else."""
    if rejection.reason in NOT_ABOUT_THE_CLIENT:
        return text("Neither certificate nor policy was the reason. What the configuration says of the client:")
    if judged.reason is rejection.reason:
        return text("Judged again by the configuration and the files as they are now, as of then:")
    return text("The configuration and the files as they are now say something else, as of then:", "bold yellow")


def _what_next(rejection: Rejection) -> Text:
    if rejection.presented is None:
        return text(
            "The admin has let go of the chain, to make room: with it in a file, explain --cert shows each check."
        )
    return text("With --config CONFIG, each check is made again and shown with what was seen, the rule and the fix.")
