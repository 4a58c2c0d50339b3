"""Reads the configuration file. The only module of this room that touches the file system."""

from collections.abc import Mapping
from pathlib import Path

from mtlsproxy.config.errors import ConfigError, ConfigErrors
from mtlsproxy.config.parse import LoadedConfig, parse_config

__all__ = ["MAX_FILE_SIZE", "LoadedConfig", "load_config"]

MAX_FILE_SIZE = 16 << 20
"""Bytes; a thousand routes of a hundred entries are four million."""


def load_config(path: Path, environ: Mapping[str, str]) -> LoadedConfig:
    """Loads the file at `path`, with `${NAME}` taken from `environ`. Raises ConfigErrors with all that is wrong."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        words = f"cannot be read: {error.strerror or error}"
        raise ConfigErrors([ConfigError(file, 1, 1, "", words)]) from error
    except ValueError as error:  # a NUL in the name
        raise ConfigErrors([ConfigError(file, 1, 1, "", f"cannot be read: {error}")]) from error
    if len(data) > MAX_FILE_SIZE:
        raise ConfigErrors([ConfigError(file, 1, 1, "", f"is larger than {MAX_FILE_SIZE >> 20} MiB")])
    # Not resolve(): a mounted Kubernetes volume is a symlink, and its neighbours are found beside the link.
    return parse_config(data, file, path.absolute().parent, environ)
