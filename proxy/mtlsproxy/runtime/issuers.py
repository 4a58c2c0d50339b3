"""Entries of allow and deny whose `issuer` is no loaded CA's name: what they match is nobody, and nothing shows it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from cryptography import x509

from mtlsproxy.config.errors import did_you_mean
from mtlsproxy.config.model import Config, Match, Route
from mtlsproxy.identity.client import NameKey, name_key
from mtlsproxy.verdict.trust import Trust

_UNLESS = "it matches nobody, unless clients send that CA along (list it under intermediates, then it is known)"


class _Authorities:
    """The names of the CAs of some truststores, read when the first is asked for: few entries have an `issuer`."""

    def __init__(self, trusts: Iterable[Trust]) -> None:
        self._trusts = tuple(trusts)

    @cached_property
    def _names(self) -> dict[NameKey, str]:
        cas = [ca for trust in self._trusts for ca in (*trust.truststore.anchors, *trust.truststore.intermediates)]
        return {name_key(ca.x509.subject): ca.subject for ca in cas}

    def complaint(self, issuer: str, *, either_order: bool) -> str | None:
        """What is wrong with an `issuer`; None where it names one of these."""
        key = name_key(x509.Name.from_rfc4514_string(issuer))
        reverse = self._names.get(key[::-1])
        if key in self._names or (either_order and reverse is not None):
            return None
        near = did_you_mean(issuer, self._names.values())
        if reverse is not None:
            near = f" (did you mean {reverse}? openssl prints names in the reverse order)"
        return f"{issuer} is no loaded CA's name{near}: {_UNLESS}"


def unknown_issuer_of(entry: Match, trusts: Mapping[str, Trust], truststore: str | None) -> str | None:
    """What is wrong with the `issuer` of a denial of the API; None where nothing is, or it has none.

    truststore: whose CAs it may name; None: those of all.
    """
    known = _Authorities(trust for name, trust in trusts.items() if truststore in (None, name))
    return next((wrong for _, wrong in _complaints([entry], known, either_order=True)), None)


def unknown_issuers(config: Config, trusts: Mapping[str, Trust]) -> Iterator[tuple[str, str]]:
    """Of every entry: where it is in the configuration, and what is wrong with its `issuer`."""
    for name, truststore in config.truststores.items():
        known, path = _Authorities([trusts[name]]), f"truststores.{name}"
        for number, wrong in _complaints(truststore.deny, known, either_order=True):
            yield f"{path}.deny[{number}].issuer", wrong
        for number, wrong in _complaints(trusts[name].deny.from_file, known, either_order=True):
            yield f"{path}.deny_file", f"{truststore.deny_file}: [{number}].issuer: {wrong}"
    for number, route in enumerate(config.routes):
        known, path = _Authorities(trusts[name] for name in _truststores(config, route)), f"routes[{number}]"
        if route.allow != "any":
            for entry, wrong in _complaints(route.allow, known, either_order=False):
                yield f"{path}.allow[{entry}].issuer", wrong
        for entry, wrong in _complaints(route.deny, known, either_order=True):
            yield f"{path}.deny[{entry}].issuer", wrong


def _truststores(config: Config, route: Route) -> Iterable[str]:
    if route.truststores is not None:
        return route.truststores
    listeners = [each for each in config.listeners if route.is_on(each.name)]
    return dict.fromkeys(name for listener in listeners for name in listener.client_auth.truststores)


def _complaints(entries: Sequence[Match], known: _Authorities, *, either_order: bool) -> Iterator[tuple[int, str]]:
    for number, entry in enumerate(entries):
        wrong = entry.issuer and known.complaint(entry.issuer, either_order=either_order)
        if wrong:
            yield number, wrong
