"""YAML to plain data in which every value can be found again as FILE:LINE:COLUMN.

Nodes, not PyYAML's constructors: no tag makes an object, a key is always the text that was written, a duplicate is an
error, and aliases cannot grow the document beyond MAX_NODES.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import Resolver

from mtlsproxy.config.errors import ConfigError

Path: TypeAlias = tuple[str | int, ...]
"""Keys and indices from the root of the document."""

MAX_NODES = 250_000
"""Values in the document with its aliases written out: two hundred entries for each of a thousand routes."""
MAX_DEPTH = 40
"""The deepest key of the model is at nine."""
_TAG = "tag:yaml.org,2002:"
_STRING = f"{_TAG}str"
_SUBSTITUTION = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")
# YAML 1.1 §5.1, c-printable; the same set as PyYAML's reader, found here so that the position is known.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _TooMuch(Exception):
    def __init__(self, message: str, node: Node) -> None:
        super().__init__(message)
        self.node = node


class _BoundedComposer(Composer):
    """PyYAML's composer with a bound on depth (libyaml's own would recurse in C until the stack ends)."""

    _depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            event = self.peek_event()  # type: ignore[attr-defined]
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class PureComposer(_BoundedComposer, yaml.SafeLoader):
    """Over PyYAML's own scanner, for a PyYAML without libyaml: ten times slower."""


class LibyamlComposer(_BoundedComposer, yaml.CSafeLoader):
    """Over libyaml's events."""

    def __init__(self, text: str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)


def compose(text: str) -> Node | None:
    """The document's root node, None where it is empty. Raises yaml.MarkedYAMLError."""
    composer = LibyamlComposer(text) if yaml.__with_libyaml__ else PureComposer(text)
    return composer.get_single_node()


class Document:
    """One parsed file. `data`: plain Python (dict, list, str, int, float, bool, None). `errors`: what YAML got wrong.

    environ: for `${NAME}` in values; None leaves them as they are written. empty: there is nothing but comments.
    """

    def __init__(self, text: str, file: str, environ: Mapping[str, str] | None) -> None:
        self.file = file
        self.empty = False
        self.data: object = None
        self.errors: list[ConfigError] = []
        self._root: Node | None = None
        if found := _UNPRINTABLE.search(text):
            self._refuse_character(text, found)
            return
        try:
            self._root = compose(text)
        except yaml.MarkedYAMLError as error:
            self._refuse_syntax(error, text)
            return
        if self._root is None:
            self.empty = True
            self.errors.append(ConfigError(file, 1, 1, "", "the file is empty"))
            return
        walk = _Walk(self, environ)
        try:
            self.data = walk.value(self._root, ())
        except _TooMuch as error:
            self.errors.append(self.error_at(error.node, (), str(error)))

    def node(self, path: Path) -> Node | None:
        """The node of the value at `path`, or None."""
        node = self._root
        for step in path:
            pair = _entry(node, step)
            if pair is None:
                return None
            node = pair[1]
        return node

    def position(self, path: Path, *, of_key: bool = False) -> tuple[int, int]:
        """Line and column of the value (or the key) at `path`; where it is absent, of the nearest key above it."""
        for length in range(len(path), 0, -1):
            pair = _entry(self.node(path[: length - 1]), path[length - 1])
            if pair:
                return _position(pair[0] if of_key or length < len(path) else pair[1])
        return _position(self._root) if self._root else (1, 1)

    def locate(self, path: str | Path) -> str:
        """`listeners[0].tls.certificates[0].private_key` → `FILE:LINE:COLUMN` (of the nearest parent where absent)."""
        line, column = self.position(self.parse(path) if isinstance(path, str) else path)
        return f"{self.file}:{line}:{column}"

    def parse(self, text: str) -> Path:
        """A printed path → its steps. Names may hold dots, so the longest key that is there wins."""
        steps: list[str | int] = []
        node = self._root
        while text:
            step = _first_step(node, text)
            text = text[len(f"[{step}]" if isinstance(step, int) else step) :].removeprefix(".")
            steps.append(step)
            pair = _entry(node, step)
            node = pair[1] if pair else None
        return tuple(steps)

    def error(self, path: Path, message: str, *, of_key: bool = False) -> ConfigError:
        line, column = self.position(path, of_key=of_key)
        return ConfigError(self.file, line, column, printed(path), message)

    def error_at(self, node: Node, path: Path, message: str) -> ConfigError:
        return ConfigError(self.file, *_position(node), printed(path), message)

    def _refuse_character(self, text: str, found: re.Match[str]) -> None:
        before = text[: found.start()]
        line, column = before.count("\n") + 1, found.start() - before.rfind("\n")
        self.errors.append(
            ConfigError(self.file, line, column, "", f"character U+{ord(found[0]):04X} is not allowed in YAML")
        )

    def _refuse_syntax(self, error: yaml.MarkedYAMLError, text: str) -> None:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        began = f"{error.context} (from line {error.context_mark.line + 1}): " if error.context_mark else ""
        words = f"YAML: {began}{error.problem}"
        lines = text.splitlines()
        if any(re.search(r":\s+\[[0-9A-Fa-f:.]*\]:[0-9]", near) for near in lines[max(0, line - 2) : line]):
            words += ' (an address that begins with [ must be quoted: "[::1]:8443")'
        elif any("\t" in near[: len(near) - len(near.lstrip())] for near in lines[max(0, line - 1) : line]):
            words += " (YAML is indented with spaces, never with tabs)"
        self.errors.append(ConfigError(self.file, line, column, "", words))


def printed(path: Path) -> str:
    """`("listeners", 0, "bind")` → `listeners[0].bind`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _position(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _entry(node: Node | None, step: str | int) -> tuple[Node, Node] | None:
    """The (key, value) nodes of a step; for a list both are the item."""
    if isinstance(node, SequenceNode) and isinstance(step, int):
        return (node.value[step], node.value[step]) if 0 <= step < len(node.value) else None
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == step:
                return key, value
        for merged in _merged(node):
            if found := _entry(merged, step):
                return found
    return None


def _merged(node: MappingNode) -> Iterator[MappingNode]:
    for key, value in node.value:
        if _is_merge(key):
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                if isinstance(source, MappingNode):
                    yield source


def _is_merge(key: Node) -> bool:
    return isinstance(key, ScalarNode) and key.tag == f"{_TAG}merge"


def _first_step(node: Node | None, text: str) -> str | int:
    if found := re.search(r"\A\[([0-9]{1,9})\]", text):
        return int(found[1])
    if isinstance(node, MappingNode):
        keys = [str(key.value) for key, _ in node.value if isinstance(key, ScalarNode)]
        fitting = [key for key in keys if key and text.startswith(key) and text[len(key) :][:1] in ("", ".", "[")]
        if fitting:
            return max(fitting, key=len)
    return re.split(r"[.\[]", text, maxsplit=1)[0] or text


_SET_IT = "set it for this command too (export, or Environment= of the service), or write the value here"


class _Walk:
    """Nodes → data, for one document."""

    def __init__(self, document: Document, environ: Mapping[str, str] | None) -> None:
        self._document = document
        self._environ = environ
        self._resolver = Resolver()
        self._constructor = SafeConstructor()
        self._count = 0
        self._open: set[int] = set()

    def value(self, node: Node, path: Path) -> object:
        self._count += 1
        if self._count > MAX_NODES:
            raise _TooMuch(f"has more than {MAX_NODES} values, aliases written out", node)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open or len(path) > MAX_DEPTH:
            raise _TooMuch(f"contains itself, or is nested more than {MAX_DEPTH} deep", node)
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            self._complain(node, path, f"tag {node.tag.replace(_TAG, '!!')} has no meaning here: remove it")
            return None
        self._open.add(id(node))
        read = self._mapping(node, path) if isinstance(node, MappingNode) else self._sequence(node, path)
        self._open.discard(id(node))
        return read

    def _complain(self, node: Node, path: Path, message: str) -> None:
        self._document.errors.append(self._document.error_at(node, path, message))

    def _sequence(self, node: Node, path: Path) -> list[object]:
        return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, object]:
        read: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if _is_merge(key):
                continue
            if not isinstance(key, ScalarNode):
                self._complain(key, path, "a key must be a name, not a list or a mapping")
            elif key.value in read:
                message = f"is written twice; the first is in line {lines[key.value]}"
                self._complain(key, (*path, key.value), message)
            else:
                lines[key.value] = key.start_mark.line + 1
                read[key.value] = self.value(value, (*path, key.value))
        for key, value in node.value:
            if _is_merge(key):
                self._merge(value, path, read)
        return read

    def _merge(self, source: Node, path: Path, read: dict[str, object]) -> None:
        for node in source.value if isinstance(source, SequenceNode) else [source]:
            if not isinstance(node, MappingNode):
                self._complain(node, path, "<< takes a mapping, or a list of mappings")
                continue
            merged = self.value(node, path)
            assert isinstance(merged, dict) or merged is None
            for key, value in (merged or {}).items():
                read.setdefault(key, value)

    def _scalar(self, node: ScalarNode, path: Path) -> object:
        text, tag, plain = node.value, node.tag, not node.style
        if tag not in (_STRING, self._resolved(text, plain)):
            self._complain(node, path, f"tag {tag.replace(_TAG, '!!')} has no meaning here: remove it")
            return ""
        if self._environ is not None and "${" in text:
            text = self._substituted(node, path, self._environ)
            tag = self._resolved(text, plain)
            # A variable that is empty must not read as null, which would switch off what it was to configure.
            tag = _STRING if tag == f"{_TAG}null" else tag
        return self._constructed(ScalarNode(tag, text, node.start_mark, node.end_mark, node.style), path)

    def _resolved(self, text: str, plain: bool) -> str:
        tag: str = self._resolver.resolve(ScalarNode, text, (plain, not plain))  # type: ignore[no-untyped-call]
        return tag

    def _constructed(self, node: ScalarNode, path: Path) -> object:
        try:
            match node.tag.removeprefix(_TAG):
                case "null":
                    return None
                case "bool":
                    return self._constructor.construct_yaml_bool(node)
                case "int":
                    return self._constructor.construct_yaml_int(node)
                case "float":
                    return self._constructor.construct_yaml_float(node)
                case _:
                    return node.value
        except ValueError:
            self._complain(node, path, "YAML reads this as a number, but it is none: quote it")
            return ""

    def _substituted(self, node: ScalarNode, path: Path, environ: Mapping[str, str]) -> str:
        def replacement(found: re.Match[str]) -> str:
            name = found[1]
            if name is None:
                self._complain(node, path, "${ begins a variable: write ${NAME}, with letters, digits and _ alone")
                return ""
            if name not in environ:
                self._complain(node, path, f"environment variable {name} is not set: {_SET_IT}")
                return ""
            return environ[name]

        return _SUBSTITUTION.sub(replacement, node.value)
