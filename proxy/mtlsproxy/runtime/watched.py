"""Which files a configuration depends on, and a value that changes when any of them does."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mtlsproxy.config.model import Config, Truststore

_WILDCARDS = frozenset("*?[")

Signature = dict[str, tuple[int, ...]]
"""By path: modification time in ns, size, inode, device; () for what is not there."""


def watched_paths(config: Config, file: Path) -> tuple[Path, ...]:
    """The configuration file itself and all files, folders and globs that it names."""
    return (file, *dict.fromkeys(_named(config)))


def _named(config: Config) -> Iterator[Path]:
    for listener in config.listeners:
        for entry in listener.tls.certificates:
            yield from (entry.certificate, entry.private_key)
            if entry.private_key_password_file is not None:
                yield entry.private_key_password_file
    if config.admin.token_file is not None:
        yield config.admin.token_file
    for upstream in config.upstreams.values():
        if upstream.tls is not None:
            tls = upstream.tls
            own = (tls.certificate, tls.private_key, tls.private_key_password_file)
            yield from (file for file in own if file is not None)
            yield from _of_truststore(tls.truststore)
    for truststore in config.truststores.values():
        yield from _of_truststore(truststore)


def _of_truststore(truststore: Truststore) -> Iterator[Path]:
    yield from (*truststore.trust_anchors, *truststore.intermediates)
    if truststore.deny_file is not None:
        yield truststore.deny_file
    if truststore.revocation is not None:
        yield from truststore.revocation.fetch.trust_anchors
        yield from (source for source in truststore.revocation.crl.sources if isinstance(source, Path))


def signature(paths: Iterable[Path]) -> Signature:
    """Follows links, and looks into folders and behind globs (not below them)."""
    out: Signature = {}
    for path in paths:
        for member in _members(path):
            out[str(member)] = _stat(member)
    return out


def _members(path: Path) -> list[Path]:
    try:
        if _WILDCARDS & set(path.name) and not path.exists():
            return [path.parent, *path.parent.glob(path.name)]
        if path.is_dir():
            return [path, *path.iterdir()]
    except OSError:
        return [path]  # it vanishes or is forbidden: its own stat says so
    return [path]


def _stat(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116 - twice a second for every file
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)
