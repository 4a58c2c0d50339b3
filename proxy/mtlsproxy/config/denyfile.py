"""Bytes of a `deny_file` → entries, or everything that is wrong with them. No file is touched here."""

import functools

from pydantic import TypeAdapter, ValidationError

from mtlsproxy.config.base import Many
from mtlsproxy.config.diagnose import diagnose
from mtlsproxy.config.document import Document
from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.matchers import DenyEntry
from mtlsproxy.config.parse import decoded


def parse_deny_file(data: bytes, file: str) -> tuple[DenyEntry, ...]:
    """A YAML list of entries, which may be empty; `${…}` is text like any other. file: for messages.

    Raises ConfigErrors with every error of the file; where it is not YAML at all, with the first.
    """
    document = Document(decoded(data, file), file, None)
    if document.empty:
        return ()
    if not isinstance(document.data, list):
        if document.data is None and not document.errors:
            return ()  # `---` with every entry commented out
        words = "must be a list of entries: each on a line of its own after a -"
        raise ConfigErrors(document.errors or [document.error((), words)])
    errors = list(document.errors)
    try:
        entries = _entries().validate_python(document.data)
    except ValidationError as error:
        errors += diagnose(error.errors(include_url=False), document, {known.path for known in errors}, DenyEntry)
    if errors:
        raise ConfigErrors(errors)
    return entries


@functools.cache
def _entries() -> TypeAdapter[tuple[DenyEntry, ...]]:
    """Made on first use: few configurations have such a file."""
    return TypeAdapter(Many[DenyEntry])
