"""Which connections are made to learn what a server demands, and what they say together.

One with the newest TLS that both sides speak; one that offers TLS 1.2 at most where that was 1.3, for a server may
demand less of those; and, with a client certificate at hand, one more that presents it.
"""

import socket
import ssl
from dataclasses import dataclass, replace

from mtlsproxy.probe.conclude import Acceptance, Finding, Talk, accepts, conclude, weakest
from mtlsproxy.probe.talk import Plan, talk
from mtlsproxy.tls.credentials import Credential

_NEWEST, _OLDEST = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2
_OLDEST_NAME = "TLSv1.2"


class Unreachable(Exception):
    """Nothing can be told of the server. `detail` is one sentence: what was tried, what happened, how to mend it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Target:
    """host: a name in A-labels or an address, without brackets. server_name: SNI, Host, and what it must prove."""

    host: str
    port: int
    server_name: str


@dataclass(frozen=True, slots=True)
class Version:
    """What was found with one version of TLS."""

    protocol: str
    cipher: str | None
    finding: Finding


@dataclass(frozen=True, slots=True)
class Survey:
    """finding: what holds of the server on the whole. talk: the connection with the newest version. address: of the
    server. untold: versions, and why nothing could be told with them. acceptance: of a certificate that was tried."""

    address: str
    talk: Talk
    finding: Finding
    versions: tuple[Version, ...]
    untold: tuple[tuple[str, str], ...]
    acceptance: Acceptance | None


def survey(target: Target, credential: Credential | None, path: str, seconds: float) -> Survey:
    """path: what is asked for, with its query. seconds: for each connection's handshake. Raises Unreachable."""
    address, first = _first(target, path, seconds)
    plan = Plan(address, target.server_name, path, _OLDEST, seconds)
    talks = [first]
    untold: list[tuple[str, str]] = []
    if first.protocol != _OLDEST_NAME:
        try:
            talks.append(talk(plan))
        except OSError as error:
            untold.append((_OLDEST_NAME, _words(error)))
    versions = []
    for one in talks:
        finding = conclude(one)
        if finding is not None:
            versions.append(Version(one.protocol or "unknown", one.cipher, finding))
        else:
            untold.append((one.protocol or ("TLSv1.3" if one is first else _OLDEST_NAME), one.detail))
    if not versions:
        raise Unreachable(f"{_title(target)}: {first.detail}{_hint(first)}")
    told = next(one for one in talks if conclude(one) is not None)
    acceptance = _try(replace(plan, maximum=_NEWEST, credential=credential)) if credential is not None else None
    return Survey(
        address[0],
        told,
        weakest(tuple(version.finding for version in versions)),
        tuple(versions),
        tuple(untold),
        acceptance,
    )


def _first(target: Target, path: str, seconds: float) -> tuple[tuple[str, int], Talk]:
    """The first address that takes a connection, and that connection."""
    failures: list[str] = []
    for address in _addresses(target):
        try:
            return address, talk(Plan(address, target.server_name, path, _NEWEST, seconds))
        except OSError as error:
            failures.append(f"{address[0]}: {_words(error)}")
    raise Unreachable(f"{_title(target)}: no connection ({'; '.join(failures)}); is a server listening there?")


def _addresses(target: Target) -> list[tuple[str, int]]:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else str(error)
        raise Unreachable(f"{target.host}: the name has no address ({why}); check how it is written") from error
    return list(dict.fromkeys((str(address[0]), int(address[1])) for *_, address in found))


def _try(plan: Plan) -> Acceptance:
    try:
        return accepts(talk(plan))
    except ssl.SSLError as error:
        return Acceptance(None, f"OpenSSL does not take the certificate with its key: {error}")
    except OSError as error:
        return Acceptance(None, f"no connection: {_words(error)}")


def _words(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error)


def _title(target: Target) -> str:
    return f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"


def _hint(first: Talk) -> str:
    if first.alert == "protocol_version":
        return "; it speaks no TLS from version 1.2 on"
    if first.alert in ("handshake_failure", "insufficient_security"):
        return "; it has no cipher in common with this OpenSSL, or wants another --server-name"
    if first.alert == "unrecognized_name":
        return "; say what it is called with --server-name"
    return ""
