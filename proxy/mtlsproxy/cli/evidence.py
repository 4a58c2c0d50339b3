"""What `explain` judges by: a client's chain, and the truststores of a configuration or of bare files."""

import base64
import binascii
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from mtlsproxy.cli.inquiry import (
    Asked,
    Explanation,
    NoSuchRoute,
    explain_request,
    explain_verification,
)
from mtlsproxy.cli.policy import Answer, Policy, Request
from mtlsproxy.cli.report import BadInput, findings
from mtlsproxy.cli.report_sources import missing
from mtlsproxy.config.errors import ConfigErrors, did_you_mean
from mtlsproxy.config.load import LoadedConfig, load_config
from mtlsproxy.config.model import Admin, Config, Listener
from mtlsproxy.identity.render import UnrenderableIdentity, render
from mtlsproxy.reasons import Reason
from mtlsproxy.revocation.crlset import HARMLESS, CrlSet
from mtlsproxy.revocation.decide import RevocationPolicy
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.revocation.sources import SourceError, load_sources
from mtlsproxy.runtime.material import load_material
from mtlsproxy.runtime.offline import Consulted, consult
from mtlsproxy.verdict.judge import judge
from mtlsproxy.verdict.trust import DenyList, Trust
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, held_instead, load_pem_certificates
from mtlsproxy.x509.evidence import Result
from mtlsproxy.x509.policy import Truststore

# Up to the next dashes, and no further: a file of nothing but BEGIN lines is read in one go.
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----((?:[^-]++|-(?!----))*+)-----END CERTIFICATE-----")
MAX_SIZE = 16 << 20
"""Octets of a file with a chain, which a file of expectations may name: /dev/zero has no end."""

_DER_SEQUENCE = b"\x30"
_T = TypeVar("_T")


def read_chain(file: Path) -> tuple[bytes, ...]:
    """The certificates of a PEM file as DER, unparsed: what is wrong with them is for the judge to say.

    Other blocks, such as a key, are passed over; one certificate in DER is taken too. Raises BadInput.
    """
    data = _read(file)
    if b"-----BEGIN" not in data and data.startswith(_DER_SEQUENCE):
        return (data,)
    certificates = _CERTIFICATE.findall(data)
    if data.count(b"-----BEGIN CERTIFICATE-----") != len(certificates):
        raise BadInput(f"{file}: a certificate in it has no end: the file was cut short")
    if not certificates:
        raise BadInput(f"{file}: no certificate (BEGIN CERTIFICATE) in it, but {held_instead(data)}")
    try:
        return tuple(base64.b64decode(b"".join(body.split()), validate=True) for body in certificates)
    except binascii.Error as error:
        raise BadInput(f"{file}: a certificate in it is not base64: {error}") from error


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_SIZE + 1)
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_SIZE:
        raise BadInput(f"{file}: is larger than {MAX_SIZE >> 20} MiB: it holds more than a client's chain")
    return data


def explain_by_config(
    presented: Sequence[bytes],
    config_file: Path,
    truststore: str | None,
    listener: str | None,
    asked: Asked,
    at: datetime,
    *,
    fetch: bool = False,
) -> Explanation:
    """By the truststores, and where one is asked for the route, of a configuration. Raises BadInput.

    fetch: ask the network for revocation data that the proxy keeps no usable copy of.
    """
    try:
        loaded = load_config(config_file, os.environ)
        material = load_material(_without_server_keys(loaded), at)
    except ConfigErrors as errors:
        raise BadInput(str(errors), findings(errors.errors)) from errors
    judging = _judging(loaded.config, material.trusts, truststore, listener)
    consulted = consult(material, judging, presented, at, ask=fetch)
    trusts = {**material.trusts, **{name: one.trust for name, one in consulted.items()}}
    explanation = _explained(presented, loaded, trusts, truststore, listener, asked, at)
    found = consulted.get(explanation.truststore or "")
    return explanation if found is None else _with_sources(explanation, found)


def admin_of(config_file: Path) -> Admin:
    """Where the proxy of a configuration has its admin. Raises BadInput."""
    try:
        return load_config(config_file, os.environ).config.admin
    except ConfigErrors as errors:
        raise BadInput(str(errors), findings(errors.errors)) from errors


def _judging(
    config: Config, trusts: Mapping[str, Trust], truststore: str | None, listener: str | None
) -> tuple[str, ...]:
    """The truststores that may be asked about the client, the first one first."""
    if truststore is not None:
        return (truststore,) if truststore in trusts else ()
    listeners = [each for each in config.listeners if listener in (None, each.name)]
    return tuple(dict.fromkeys(name for each in listeners for name in each.client_auth.truststores))


def _with_sources(explanation: Explanation, consulted: Consulted) -> Explanation:
    """Where the answer may be another once all are asked, that is the first thing to do."""
    explanation = dataclasses.replace(explanation, consulted=consulted)
    if explanation.verdict.reason is Reason.REVOKED or not (others := missing(consulted)):
        return explanation
    advice = f"run again with --fetch, which asks {', '.join(others)} as the proxy does"
    checks = tuple(
        dataclasses.replace(check, fix=f"{advice}; if that changes nothing: {check.fix}")
        if check.name == "revocation" and check.result is Result.FAIL
        else check
        for check in explanation.checks
    )
    return dataclasses.replace(explanation, checks=checks)


def _explained(
    presented: Sequence[bytes],
    loaded: LoadedConfig,
    trusts: Mapping[str, Trust],
    truststore: str | None,
    listener: str | None,
    asked: Asked,
    at: datetime,
) -> Explanation:
    config = loaded.config
    if truststore is not None:
        trusts = {truststore: _named(trusts, truststore, "truststore")}
    listeners = _listeners(config, listener, truststore)
    if asked is None:
        names = dict.fromkeys(name for each in listeners for name in each.client_auth.truststores if name in trusts)
        return explain_verification(presented, [trusts[name] for name in names or trusts], at)
    if not listeners:
        raise BadInput(f"no listener takes clients of truststore {truststore}: it has no routes")
    served = {each.name: tuple(read_served(each)) for each in listeners} if isinstance(asked, Request) else {}
    try:
        return explain_request(presented, config, trusts, asked, listeners, served, at)
    except NoSuchRoute as error:
        known = did_you_mean(error.name, (route.name for route in config.routes))
        raise BadInput(f"{loaded.document.file}: {error}{known}") from error


def _without_server_keys(loaded: LoadedConfig) -> LoadedConfig:
    """Who asks about clients need not be able to read our own keys, the admin's token, or what upstreams need."""
    listeners = tuple(
        listener.model_copy(update={"tls": listener.tls.model_copy(update={"certificates": ()})})
        for listener in loaded.config.listeners
    )
    admin = loaded.config.admin.model_copy(update={"token_file": None})
    upstreams = {name: each.model_copy(update={"tls": None}) for name, each in loaded.config.upstreams.items()}
    config = loaded.config.model_copy(update={"listeners": listeners, "admin": admin, "upstreams": upstreams})
    return dataclasses.replace(loaded, config=config)


def read_served(listener: Listener) -> Iterator[Certificate]:
    """The proxy's own certificates, the default first. Raises BadInput."""
    for entry in listener.tls.certificates:
        yield _read_certificates(entry.certificate)[0]


def _listeners(config: Config, name: str | None, truststore: str | None) -> tuple[Listener, ...]:
    if name is not None:
        by_name = {listener.name: listener for listener in config.listeners}
        listener = _named(by_name, name, "listener")
        if truststore is not None and truststore not in listener.client_auth.truststores:
            raise BadInput(f"listener {name} takes no clients of truststore {truststore}")
        return (listener,)
    return tuple(
        listener
        for listener in config.listeners
        if truststore is None or truststore in listener.client_auth.truststores
    )


def _named(known: Mapping[str, _T], name: str, kind: str) -> _T:
    try:
        return known[name]
    except KeyError:
        raise BadInput(f"there is no {kind} {name}{did_you_mean(name, known)}") from None


def explain_by_files(
    presented: Sequence[bytes], anchor_files: Sequence[Path], crl_sources: Sequence[Path], at: datetime
) -> Explanation:
    """By a truststore of these files with the default policy, revocation hard_fail where there are CRLs, else off.

    Raises BadInput.
    """
    anchors = tuple(dict.fromkeys(certificate for file in anchor_files for certificate in _read_certificates(file)))
    policy = RevocationPolicy("hard_fail" if crl_sources else "off")
    trust = Trust(Truststore("default", anchors), policy, _read_crls(crl_sources, anchors), DenyList(()))
    return explain_verification(presented, [trust], at)


def _read_certificates(file: Path) -> tuple[Certificate, ...]:
    try:
        return load_pem_certificates(_read(file))
    except MalformedCertificate as error:
        raise BadInput(f"{file}: {error.detail}") from error


def _read_crls(sources: Sequence[Path], issuers: Sequence[Certificate]) -> CrlSet:
    try:
        found = load_sources(sources)
    except (SourceError, CrlError) as error:
        raise BadInput(error.detail) from error
    crls, problems = CrlSet.build(found.crls, issuers)
    # As at a start: what is of use to some chains may stay, what is of use to none is a mistake.
    wrong = [problem.detail for problem in problems if problem.kind not in HARMLESS]
    if wrong:
        raise BadInput("\n".join(wrong))
    return crls


class Judging:
    """The truststores of a configuration with the files of now, asked about many chains."""

    def __init__(self, loaded: LoadedConfig, at: datetime) -> None:
        """Raises BadInput."""
        try:
            material = load_material(_without_server_keys(loaded), at)
        except ConfigErrors as errors:
            raise BadInput(str(errors), findings(errors.errors)) from errors
        # Denials made through the API are a running proxy's, and no matter of the configuration.
        self._material = material.with_denials(())
        self._at = at
        self._trusts: dict[tuple[bytes, ...], Mapping[str, Trust]] = {}

    def answer(self, presented: tuple[bytes, ...], policy: Policy, asked: Request, listener: Listener) -> Answer:
        """By the CRLs of files and the proxy's copies of fetched ones; nobody is asked over the network."""
        names = listener.client_auth.truststores
        trusts = self._known(presented)
        verdict = judge(presented, [trusts[name] for name in names], self._at)
        if verdict.reason is not None or verdict.client is None:
            return Answer(listener.name, None, verdict.reason, verdict.detail)
        answer = policy.answer(verdict.client, verdict.truststores, asked, listener, self._at)
        if answer.route is None or answer.truststore is None or not answer.allowed:
            return answer
        route = next(route for route in policy.config.routes if route.name == answer.route)
        identity = policy.config.identities[route.identity]
        try:
            render(identity, verdict.client, verdict.vouch(answer.truststore).chain, answer.truststore)
        except UnrenderableIdentity as error:
            return Answer(listener.name, answer.route, Reason.MALFORMED_CERTIFICATE, error.detail)
        return answer

    def _known(self, presented: tuple[bytes, ...]) -> Mapping[str, Trust]:
        known = self._trusts.get(presented)
        if known is None:
            consulted = consult(self._material, self._material.trusts, presented, self._at, ask=False)
            fetched = {name: one.trust for name, one in consulted.items()}
            known = self._trusts[presented] = {**self._material.trusts, **fetched}
        return known
