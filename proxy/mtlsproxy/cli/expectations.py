"""A file of expectations about who may do what, and what a configuration says to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ValidationError, WithJsonSchema, model_validator

from mtlsproxy.cli import evidence
from mtlsproxy.cli.policy import Answer, Request
from mtlsproxy.cli.report import BadInput, findings
from mtlsproxy.cli.site import Site
from mtlsproxy.config.base import Absent, ManyOnce, Section, Some, SomeOnce
from mtlsproxy.config.diagnose import diagnose
from mtlsproxy.config.document import Document
from mtlsproxy.config.errors import ConfigError, ConfigErrors, did_you_mean
from mtlsproxy.config.model import Listener
from mtlsproxy.config.parse import decoded
from mtlsproxy.config.scalars import FileName, Instant, Name, Text
from mtlsproxy.identity.client import Client
from mtlsproxy.identity.described import Description, client_described
from mtlsproxy.reasons import Reason

MAX_SIZE = 16 << 20
"""Octets of a file of expectations."""


def _known_reason(text: str) -> str:
    if text not in set(Reason):
        raise ValueError(f"there is no reason {text}{did_you_mean(text, Reason)}")
    return text


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"{text!r}: a path begins with /")
    return text.partition("?")[0]


class WhoIs(Section):
    """A client: a certificate, which is verified as on the wire; or a description, of one that was verified."""

    certificate: Absent[FileName] = None
    """PEM, leaf first."""
    truststores: Absent[SomeOnce[Name]] = None
    """Which have verified whom is described; required where the listener has several."""
    subject: Absent[Text] = None
    issuer: Absent[Text] = None
    serial: Absent[Text] = None
    fingerprint_sha256: Absent[Text] = None
    spki_sha256: Absent[Text] = None
    san: ManyOnce[Text] = ()
    """As in X-Client-San and logs: URI:spiffe://a/b, DNS:x.example, EMAIL:a@b.example, IP:192.0.2.1."""
    policy_oids: ManyOnce[Text] = ()

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        described = self.model_fields_set - {"certificate"}
        if self.certificate is not None and described:
            raise ValueError(f"a certificate says itself what it is: leave out {', '.join(sorted(described))}")
        if self.certificate is None:
            if not described - {"truststores"}:
                raise ValueError("give a certificate, or describe the client: subject, san, issuer, serial, …")
            client_described(self.description)
        return self

    @property
    def description(self) -> Description:
        return Description(
            self.subject or "", self.issuer or "", self.serial or "", self.fingerprint_sha256 or "",
            self.spki_sha256 or "", self.san, self.policy_oids,
        )  # fmt: skip


class Expectation(Section):
    """One request of one client, and what is to become of it."""

    name: Absent[Text] = None
    client: Name
    listener: Absent[Name] = None
    """Absent: the first that has a route for the request."""
    method: Text = "GET"
    host: Text | None = None
    """null or absent: none, which routes for any host match."""
    path: Annotated[str, AfterValidator(_path), WithJsonSchema({"type": "string", "pattern": "^/"})] = "/"
    expect: Literal["allow", "deny"]
    reason: Absent[Annotated[str, AfterValidator(_known_reason)]] = None
    route: Absent[Name] = None

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.expect == "allow" and self.reason is not None:
            raise ValueError("reason goes with expect: deny")
        return self


class Expectations(Section):
    """The file."""

    version: Literal[1]
    config: Absent[FileName] = None
    """The configuration; --config comes first."""
    at: Absent[Instant] = None
    """Judge as if it were then."""
    clients: dict[Name, WhoIs]
    tests: Some[Expectation]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The file, and where in it things are."""

    said: Expectations
    document: Document

    def where(self, number: int) -> str:
        """FILE:LINE of a test."""
        return self.document.locate(f"tests[{number}]").rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """wrong: what is not as expected, "" where all is."""

    number: int
    where: str
    test: Expectation
    answer: Answer
    wrong: str

    @property
    def title(self) -> str:
        test = self.test
        return test.name or f"{test.client} {test.method} {test.host or ''}{test.path}"


def load_expectations(file: Path) -> Loaded:
    """Raises BadInput with every error of the file."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_SIZE + 1)
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_SIZE:
        raise BadInput(f"{file}: is larger than {MAX_SIZE >> 20} MiB")
    try:
        return _parsed(data, file)
    except ConfigErrors as errors:
        raise BadInput(str(errors), findings(errors.errors)) from errors


def _parsed(data: bytes, file: Path) -> Loaded:
    document = Document(decoded(data, str(file)), str(file), None)
    if document.data is None:
        raise ConfigErrors(document.errors or [ConfigError(str(file), 1, 1, "", "the file is empty")])
    errors = list(document.errors)
    try:
        said = Expectations.model_validate(document.data, context={"folder": file.absolute().parent})
    except ValidationError as error:
        known = {each.path for each in errors}
        errors += diagnose(error.errors(include_url=False), document, known, Expectations)
        raise ConfigErrors(errors) from None
    errors += [
        document.error(
            ("tests", number, "client"), f"no client {test.client!r}{did_you_mean(test.client, said.clients)}"
        )
        for number, test in enumerate(said.tests)
        if test.client not in said.clients
    ]
    if errors:
        raise ConfigErrors(errors)
    return Loaded(said, document)


def check_names(loaded: Loaded, site: Site) -> None:
    """That listeners, truststores and routes are the configuration's. Raises BadInput."""
    config, document = site.config, loaded.document
    listeners, routes = [each.name for each in config.listeners], [each.name for each in config.routes]
    errors = []
    for number, test in enumerate(loaded.said.tests):
        for key, name, known in (("listener", test.listener, listeners), ("route", test.route, routes)):
            if name is not None and name not in known:
                errors.append(document.error(("tests", number, key), f"no {key} {name!r}{did_you_mean(name, known)}"))
    for who, client in loaded.said.clients.items():
        for number, name in enumerate(client.truststores or ()):
            if name not in config.truststores:
                words = f"no truststore {name!r}{did_you_mean(name, config.truststores)}"
                errors.append(document.error(("clients", who, "truststores", number), words))
    if errors:
        raise BadInput("\n".join(map(str, errors)), findings(errors))


def run_tests(loaded: Loaded, site: Site, at: datetime) -> tuple[Outcome, ...]:
    """Raises BadInput."""
    said = loaded.said
    presented = {
        name: evidence.read_chain(who.certificate) for name, who in said.clients.items() if who.certificate is not None
    }
    described = {
        name: client_described(who.description) for name, who in said.clients.items() if who.certificate is None
    }
    judging = evidence.Judging(site.loaded, at) if presented else None
    outcomes = []
    for number, test in enumerate(said.tests):
        listeners = [each for each in site.config.listeners if test.listener in (None, each.name)]
        if judging is not None and test.client in presented:
            answers = [judging.answer(presented[test.client], site.policy, _request(test), each) for each in listeners]
        else:
            stores = said.clients[test.client].truststores
            answers = [_described(described[test.client], stores, site, test, each, at) for each in listeners]
        answer = next((each for each in answers if each.route is not None), answers[0])
        outcomes.append(Outcome(number, loaded.where(number), test, answer, _wrong(test, answer)))
    return tuple(outcomes)


def _described(
    client: Client, stores: Sequence[str] | None, site: Site, test: Expectation, listener: Listener, at: datetime
) -> Answer:
    names = listener.client_auth.truststores
    if stores is None and len(names) > 1:
        raise BadInput(
            f"client {test.client}: listener {listener.name} has several truststores ({', '.join(names)}): "
            "say with truststores which have verified the client"
        )
    return site.policy.answer(client, names if stores is None else stores, _request(test), listener, at)


def _request(test: Expectation) -> Request:
    return Request(test.method, test.path.encode("utf-8", "surrogateescape"), test.host or "")


def _wrong(test: Expectation, answer: Answer) -> str:
    """A denial for the wrong reason protects by accident, and an allowance on another route goes somewhere else."""
    if answer.allowed != (test.expect == "allow"):
        became = "allowed" if answer.allowed else f"refused with {answer.reason}"
        return f"expected {test.expect}, and it is {became} ({answer.detail})"
    if test.reason is not None and answer.reason != test.reason:
        return f"expected reason {test.reason}, and it is {answer.reason} ({answer.detail})"
    if test.route is not None and answer.route != test.route:
        return f"expected route {test.route}, and it is {answer.route or 'none'} ({answer.detail})"
    return ""
