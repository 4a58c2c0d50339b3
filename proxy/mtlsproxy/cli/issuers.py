"""Entries of allow and deny whose `issuer` is no loaded CA's name: what they match is nobody, and nothing shows it."""

from collections.abc import Iterable, Iterator, Sequence

from cryptography import x509

from mtlsproxy.config.errors import ConfigErrors, ConfigWarning, did_you_mean
from mtlsproxy.config.load import LoadedConfig, UnreadableFile, load_deny_file
from mtlsproxy.config.model import Config, Match, Route
from mtlsproxy.identity.client import NameKey, name_key
from mtlsproxy.runtime.material import Material
from mtlsproxy.verdict.trust import Trust

_UNLESS = "it matches nobody, unless clients send that CA along (list it under intermediates, then it is known)"


class _Authorities:
    """The names of the CAs of some truststores."""

    def __init__(self, trusts: Iterable[Trust]) -> None:
        cas = [ca for trust in trusts for ca in (*trust.truststore.anchors, *trust.truststore.intermediates)]
        self._names: dict[NameKey, str] = {name_key(ca.x509.subject): ca.subject for ca in cas}

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


def unknown_issuers(material: Material) -> Iterator[ConfigWarning]:
    """Of every entry, at its `issuer`. Raises ConfigErrors for a deny_file that has changed meanwhile."""
    loaded, trusts = material.loaded, material.trusts
    for name, truststore in loaded.config.truststores.items():
        known = _Authorities([trusts[name]])
        yield from _warnings(loaded, f"truststores.{name}.deny", truststore.deny, known, either_order=True)
        if truststore.deny_file is not None:
            yield from _of_deny_file(loaded, name, known)
    for number, route in enumerate(loaded.config.routes):
        known = _Authorities(trusts[name] for name in _truststores(loaded.config, route))
        path = f"routes[{number}]"
        if route.allow != "any":
            yield from _warnings(loaded, f"{path}.allow", route.allow, known, either_order=False)
        yield from _warnings(loaded, f"{path}.deny", route.deny, known, either_order=True)


def _truststores(config: Config, route: Route) -> Iterable[str]:
    if route.truststores is not None:
        return route.truststores
    listeners = [each for each in config.listeners if route.listeners is None or each.name in route.listeners]
    return dict.fromkeys(name for listener in listeners for name in listener.client_auth.truststores)


def _warnings(
    loaded: LoadedConfig, path: str, entries: Sequence[Match], known: _Authorities, *, either_order: bool
) -> Iterator[ConfigWarning]:
    for number, entry in enumerate(entries):
        wrong = entry.issuer and known.complaint(entry.issuer, either_order=either_order)
        if wrong:
            yield _at(loaded, f"{path}[{number}].issuer", wrong)


def _of_deny_file(loaded: LoadedConfig, truststore: str, known: _Authorities) -> Iterator[ConfigWarning]:
    path, file = f"truststores.{truststore}.deny_file", loaded.config.truststores[truststore].deny_file
    assert file is not None
    try:
        entries = load_deny_file(file)
    except UnreadableFile as error:
        raise ConfigErrors([loaded.error(path, f"{file} {error.detail}")]) from error
    for number, entry in enumerate(entries):
        wrong = entry.issuer and known.complaint(entry.issuer, either_order=True)
        if wrong:
            yield _at(loaded, path, f"{file}: [{number}].issuer: {wrong}")


def _at(loaded: LoadedConfig, path: str, message: str) -> ConfigWarning:
    place = loaded.error(path, message)
    return ConfigWarning(place.file, place.line, place.column, place.path, place.message)
