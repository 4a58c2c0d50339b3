"""Reads the configuration file and deny files. The only module of this room that touches the file system."""

from collections.abc import Mapping
from pathlib import Path

from mtlsproxy.config.denyfile import parse_deny_file
from mtlsproxy.config.errors import ConfigError, ConfigErrors
from mtlsproxy.config.matchers import DenyEntry
from mtlsproxy.config.parse import LoadedConfig, parse_config

__all__ = ["MAX_FILE_SIZE", "LoadedConfig", "UnreadableFile", "load_config", "load_deny_file", "reread_config"]

MAX_FILE_SIZE = 16 << 20
"""Bytes; a thousand routes of a hundred entries are four million."""


class UnreadableFile(Exception):
    """A file cannot be had; `detail` says why, without its name."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def load_config(path: Path, environ: Mapping[str, str]) -> LoadedConfig:
    """Loads the file at `path`, with `${NAME}` taken from `environ`. Raises ConfigErrors with all that is wrong."""
    try:
        data = _read(path)
    except UnreadableFile as error:
        raise ConfigErrors([ConfigError(str(path), 1, 1, "", error.detail)]) from error
    return reread_config(path, data, environ)


def reread_config(path: Path, data: bytes, environ: Mapping[str, str]) -> LoadedConfig:
    """As `load_config`, of a file whose bytes another process has read."""
    # Not resolve(): a mounted Kubernetes volume is a symlink, and its neighbours are found beside the link.
    return parse_config(data, str(path), path.absolute().parent, environ)


def load_deny_file(path: Path) -> tuple[DenyEntry, ...]:
    """The entries of a truststore's `deny_file`. Raises UnreadableFile; ConfigErrors with all that is wrong in it."""
    return parse_deny_file(_read(path), str(path))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise UnreadableFile(f"cannot be read: {error}") from error
    if len(data) > MAX_FILE_SIZE:
        raise UnreadableFile(f"is larger than {MAX_FILE_SIZE >> 20} MiB")
    return data
