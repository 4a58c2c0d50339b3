"""YAML to plain data with positions: what is read, what is refused, and where it is said to be."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.config import document as module
from mtlsproxy.config.document import Document, LibyamlComposer, PureComposer, printed
from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.parse import parse_config


def read(text: str, **environ: str) -> Document:
    return Document(text, "f.yaml", environ)


def errors(text: str, **environ: str) -> list[str]:
    return [str(error) for error in read(text, **environ).errors]


def test_plain_values_are_read_as_yaml_1_1_reads_them() -> None:
    document = read("a: 1\nb: on\nc: off\nd: 10s\ne: '12'\nf: ~\ng: 1.5\nh: [x, {y: z}]\ni: 2030-01-01\nj: 0x10\n")
    assert document.errors == []
    assert document.data == {
        "a": 1,
        "b": True,
        "c": False,
        "d": "10s",
        "e": "12",
        "f": None,
        "g": 1.5,
        "h": ["x", {"y": "z"}],
        "i": "2030-01-01",
        "j": 16,
    }


def test_keys_are_the_text_that_was_written() -> None:
    """`on:` and `1:` are names like others, whatever YAML 1.1 makes of them."""
    assert read("on: 1\n1: x\nnull: y\n").data == {"on": 1, "1": "x", "null": "y"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "f.yaml:2:1: a: is written twice; the first is in line 1"),
        ("x:\n  - {b: 1, b: 2}\n", "f.yaml:2:12: x[0].b: is written twice; the first is in line 2"),
        ("? [a]\n: 1\n", "f.yaml:1:3: a key must be a name, not a list or a mapping"),
        (
            "a: !!python/object:os.system x\n",
            "f.yaml:1:4: a: tag !!python/object:os.system has no meaning here: remove it",
        ),
        ("a: !secret x\n", "f.yaml:1:4: a: tag !secret has no meaning here: remove it"),
        ("a: !!set {b, c}\n", "f.yaml:1:4: a: tag !!set has no meaning here: remove it"),
        ('a: !!int "12"\n', "f.yaml:1:4: a: tag !!int has no meaning here: remove it"),
        ("a: 0x_\n", "f.yaml:1:4: a: YAML reads this as a number, but it is none: quote it"),
        (f"a: {'9' * 5000}\n", "f.yaml:1:4: a: YAML reads this as a number, but it is none: quote it"),
        ("<<: 3\n", "f.yaml:1:5: << takes a mapping, or a list of mappings"),
        ("", "f.yaml:1:1: the file is empty"),
        ("# only this\n", "f.yaml:1:1: the file is empty"),
        ("ok: 1\nb: \x07\n", "f.yaml:2:4: character U+0007 is not allowed in YAML"),
    ],
)
def test_refused_with_its_position(text: str, message: str) -> None:
    assert errors(text) == [message]


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        (
            "a: [1\nb: 2\n",
            "f.yaml:2:2:",
            "while parsing a flow sequence (from line 1): did not find expected ',' or ']'",
        ),
        ("a: *nobody\n", "f.yaml:1:4:", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1:", "but found another document"),
        ("a:\n\tb: 1\n", "f.yaml:2:1:", "spaces, never with tabs"),
        ("bind: [::1]:8443\n", "f.yaml:1:", 'must be quoted: "[::1]:8443"'),
        ("a: 'x\n", "f.yaml:", "quoted scalar"),
    ],
)
def test_broken_yaml_is_one_error_with_its_position(text: str, position: str, words: str) -> None:
    (message,) = errors(text)
    assert message.startswith(position)
    assert words in message


def test_aliases_and_merge_keys_are_read() -> None:
    document = read("a: &x {k: 1, l: 2}\nb: *x\nc: {<<: *x, l: 3}\nd: {<<: [*x, {m: 4}]}\n")
    assert document.errors == []
    assert document.data == {
        "a": {"k": 1, "l": 2},
        "b": {"k": 1, "l": 2},
        "c": {"k": 1, "l": 3},
        "d": {"k": 1, "l": 2, "m": 4},
    }
    assert document.locate("c.k") == "f.yaml:1:11"
    assert document.locate("c.l") == "f.yaml:3:16"


def test_aliases_cannot_grow_the_document_without_bound() -> None:
    """A billion laughs: ten levels of ten aliases each are refused after MAX_NODES."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (message,) = errors("\n".join(lines))
    assert f"has more than {module.MAX_NODES} values" in message


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: *a}\n", "a: &a {<<: *a}\n"])
def test_a_document_that_contains_itself_is_refused(text: str) -> None:
    (message,) = errors(text)
    assert "contains itself" in message or "undefined alias" in message


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_depth_is_bounded(opening: str) -> None:
    """Also where the parser in C would recurse until the stack ends."""
    (message,) = errors(opening * 100_000)
    assert f"nested more than {module.MAX_DEPTH} deep" in message


def test_variables_are_replaced_in_values_alone() -> None:
    document = read("a: ${X}\nb: 'p-${X}-${Y}'\n${X}: 1\nc: $X {X}\n", X="v", Y="w")
    assert document.errors == []
    assert document.data == {"a": "v", "b": "p-v-w", "${X}": 1, "c": "$X {X}"}


def test_a_variable_cannot_add_structure() -> None:
    assert read("a: ${X}\n", X="1\nb: [2]").data == {"a": "1\nb: [2]"}


def test_an_unquoted_variable_reads_like_the_text_it_stands_for_and_a_quoted_one_stays_a_string() -> None:
    assert read("a: ${N}\nb: '${N}'\nc: ${T}\n", N="12", T="true").data == {"a": 12, "b": "12", "c": True}


@pytest.mark.parametrize("value", ["", "null", "~"])
def test_a_variable_never_reads_as_null(value: str) -> None:
    """`spiffe_trust_domain: ${DOMAIN}` with an empty DOMAIN must not switch the check off."""
    assert read("a: ${X}\n", X=value).data == {"a": value}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: ${NOPE}\n", "f.yaml:1:4: a: environment variable NOPE is not set"),
        ("a: ${X\n", "write ${NAME}"),
        ("a: ${X:-y}\n", "write ${NAME}"),
        ("a: ${}\n", "write ${NAME}"),
        ("a: ${É}\n", "write ${NAME}"),
    ],
)
def test_a_variable_that_is_unset_or_misspelt_is_an_error(text: str, words: str) -> None:
    (message,) = errors(text, X="x")
    assert words in message


LOCATED = "listeners:\n  - name: a\n    tls: {certificates: [{private_key: k}]}\ntruststores:\n  a.b:\n    deny: []\n"


@pytest.mark.parametrize(
    ("path", "position"),
    [
        ("listeners", "2:3"),
        ("listeners[0].name", "2:11"),
        ("listeners[0].tls.certificates[0].private_key", "3:40"),
        ("truststores.a.b.deny", "6:11"),
        ("listeners[0].tls.certificates[0].absent", "3:26"),
        ("listeners[0].timeouts.idle", "2:5"),
        ("listeners[7].name", "1:1"),
        ("truststores.a.b.revocation.mode", "5:3"),
        ("absent", "1:1"),
        ("", "1:1"),
        (".", "1:1"),
        ("listeners[0", "1:1"),
    ],
)
def test_a_printed_path_is_found_again(path: str, position: str) -> None:
    """Where it is absent, the nearest key above it is named."""
    assert read(LOCATED).locate(path) == f"f.yaml:{position}"


def test_paths_print_as_they_are_looked_up() -> None:
    path = ("listeners", 0, "tls", "certificates", 0, "private_key")
    assert printed(path) == "listeners[0].tls.certificates[0].private_key"
    assert read(LOCATED).parse(printed(path)) == path


def test_a_byte_order_mark_is_skipped_and_other_encodings_are_refused() -> None:
    with pytest.raises(ConfigErrors, match=r"f\.yaml:1:1: listeners: is required"):
        parse_config(b"\xef\xbb\xbfversion: 1\n", "f.yaml", Path("/"), {})
    with pytest.raises(ConfigErrors, match=r"f\.yaml:2:3: is not UTF-8"):
        parse_config(b"a: 1\nb:\xff\n", "f.yaml", Path("/"), {})


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text("abc 0:*&!{}[]#'\"\n", max_size=8)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_with_and_without_libyaml_the_same_is_read(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)

    def shape(composer: type) -> str:
        return yaml.serialize(composer(text).get_single_node())

    assert shape(LibyamlComposer) == shape(PureComposer)


def test_without_libyaml_depth_is_bounded_too() -> None:
    with pytest.raises(yaml.MarkedYAMLError, match="nested more than"):
        PureComposer("[" * 1000).get_single_node()
