"""A configuration as `test-policy` and `plan` ask it: its routes, its deny lists, and what can be read of its files."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtlsproxy.access.lint import Remark, lint
from mtlsproxy.cli.evidence import read_served
from mtlsproxy.cli.policy import Policy, stands_for
from mtlsproxy.cli.report import BadInput, findings
from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.load import LoadedConfig, UnreadableFile, load_config, load_deny_file
from mtlsproxy.config.model import Config, DenyEntry
from mtlsproxy.verdict.trust import DenyList
from mtlsproxy.x509.certificate import Certificate


@dataclass(frozen=True, slots=True)
class Site:
    """served: the proxy's own certificates by listener; None where they are not to be looked at."""

    loaded: LoadedConfig
    policy: Policy
    served: Mapping[str, Sequence[Certificate]] | None

    @property
    def config(self) -> Config:
        return self.loaded.config

    def remarks(self) -> tuple[Remark, ...]:
        served = self.served
        if served is None:
            return lint(self.config)
        return lint(self.config, lambda listener, host: stands_for(served[listener], host))


def load_site(file: Path, *, hosts: bool, asks_hosts: bool) -> Site:
    """hosts: whether the listeners' certificates may be read, to see which hosts they stand for, where anything depends
    on it: routes that name hosts, or requests (asks_hosts).

    Denials made through the API are a running proxy's, and left out. Raises BadInput.
    """
    try:
        loaded = load_config(file, os.environ)
    except ConfigErrors as errors:
        raise BadInput(str(errors), findings(errors.errors)) from errors
    config = loaded.config
    look = hosts and (asks_hosts or any(route.hosts for route in config.routes))
    served = {each.name: tuple(read_served(each)) for each in config.listeners} if look else None
    denies = {name: DenyList(store.deny, _from_file(store.deny_file)) for name, store in config.truststores.items()}
    return Site(loaded, Policy(config, served, denies), served)


def _from_file(file: Path | None) -> tuple[DenyEntry, ...]:
    if file is None:
        return ()
    try:
        return load_deny_file(file)
    except UnreadableFile as error:
        raise BadInput(f"{file}: {error.detail}") from error
    except ConfigErrors as errors:
        raise BadInput(str(errors), findings(errors.errors)) from errors
