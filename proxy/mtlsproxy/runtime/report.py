"""What is wrong with the files of a configuration, each at the line that names it."""

from mtlsproxy.config.errors import ConfigError, ConfigWarning
from mtlsproxy.config.load import LoadedConfig


class Report:
    """Collects errors and warnings; paths are those of the configuration, `truststores.a.trust_anchors[0]`."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self._loaded = loaded
        self.errors: list[ConfigError] = []
        self.warnings: list[ConfigWarning] = list(loaded.warnings)

    def error(self, path: str, message: str) -> None:
        self.errors.append(self._loaded.error(path, message))

    def warn(self, path: str, message: str) -> None:
        at = self._loaded.error(path, message)
        self.warnings.append(ConfigWarning(at.file, at.line, at.column, at.path, at.message))
