"""Bytes of a configuration file → `LoadedConfig`, or everything that is wrong with them. No file is touched here."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mtlsproxy.config.availability import not_available
from mtlsproxy.config.diagnose import diagnose
from mtlsproxy.config.document import Document
from mtlsproxy.config.errors import ConfigError, ConfigErrors, ConfigWarning
from mtlsproxy.config.model import Config
from mtlsproxy.config.references import check_references
from mtlsproxy.config.weaknesses import warnings


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration that may start, with the way back to its lines.

    data: the file's bytes. sha256: of them, lower-case hexadecimal. warnings: weaker choices, in the file's order.
    """

    config: Config
    document: Document
    data: bytes
    sha256: str
    warnings: tuple[ConfigWarning, ...]

    def locate(self, path: str) -> str:
        """`listeners[0].tls.certificates[0].private_key` → `FILE:LINE:COLUMN`, of the nearest parent where absent."""
        return self.document.locate(path)

    def error(self, path: str, message: str) -> ConfigError:
        """An error of a later stage (an unreadable key, say) at the key that caused it."""
        return self.document.error(self.document.parse(path), message)


def parse_config(data: bytes, file: str, folder: Path, environ: Mapping[str, str]) -> LoadedConfig:
    """Reads `data` as the configuration file `file` (for messages); relative names are taken from `folder`.

    Raises ConfigErrors with every error of the file; where it is not YAML at all, with the first.
    """
    document = Document(decoded(data, file), file, environ)
    errors = list(document.errors)
    if document.data is None:
        raise ConfigErrors(errors or [ConfigError(file, 1, 1, "", "the file is empty")])
    errors += check_references(document)
    errors += not_available(document)
    try:
        config = Config.model_validate(document.data, context={"folder": folder})
    except ValidationError as error:
        errors += diagnose(error.errors(include_url=False), document, {known.path for known in errors})
        raise ConfigErrors(errors) from None
    if errors:
        raise ConfigErrors(errors)
    return LoadedConfig(config, document, data, hashlib.sha256(data).hexdigest(), tuple(warnings(config, document)))


def decoded(data: bytes, file: str) -> str:
    """UTF-8, with or without a byte order mark. Raises ConfigErrors, at the byte that is not."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise ConfigErrors([ConfigError(file, line, column, "", "is not UTF-8")]) from None
