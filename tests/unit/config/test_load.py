"""From a file on disk: what is read, what is refused, what a later stage can ask."""

import hashlib
from pathlib import Path

import pytest
from tests.unit.config.conftest import changed

from mtlsproxy.config.errors import ConfigError, ConfigErrors, did_you_mean
from mtlsproxy.config.load import MAX_FILE_SIZE, load_config


def refusal(path: Path) -> str:
    with pytest.raises(ConfigErrors) as caught:
        load_config(path, {})
    return str(caught.value)


def test_a_file_is_loaded_with_its_hash_and_names_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_bytes(changed({}))
    loaded = load_config(path, {})
    assert loaded.sha256 == hashlib.sha256(changed({})).hexdigest()
    assert loaded.config.truststores["partners"].trust_anchors == (tmp_path / "ca.pem",)


def test_names_are_relative_to_the_link_not_to_its_target(tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap as links into a hidden folder."""
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "proxy.yaml").write_bytes(changed({}))
    link = tmp_path / "proxy.yaml"
    link.symlink_to("..data/proxy.yaml")
    assert load_config(link, {}).config.truststores["partners"].trust_anchors == (tmp_path / "ca.pem",)


def test_a_relative_file_gives_absolute_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proxy.yaml").write_bytes(changed({}))
    monkeypatch.chdir(tmp_path)
    loaded = load_config(Path("proxy.yaml"), {})
    assert loaded.config.truststores["partners"].trust_anchors == (tmp_path / "ca.pem",)
    assert loaded.locate("version") == "proxy.yaml:1:10"


def test_a_file_that_cannot_be_read_is_an_error_like_others(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.yaml") == f"{tmp_path}/no.yaml:1:1: cannot be read: No such file or directory"
    assert refusal(tmp_path) == f"{tmp_path}:1:1: cannot be read: Is a directory"
    assert "cannot be read" in refusal(tmp_path / "a\0b")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_FILE_SIZE + 1))
    assert "is larger than 16 MiB" in refusal(large)


def test_a_later_stage_reports_at_the_key(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_bytes(changed({}))
    loaded = load_config(path, {})
    error = loaded.error("listeners[0].tls.certificates[0].private_key", "no such file")
    key = "listeners[0].tls.certificates[0].private_key"
    assert str(error) == f"{loaded.locate(key)}: {key}: no such file"
    assert path.read_text().splitlines()[error.line - 1][error.column - 1 :] == "server.key"


def test_all_errors_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "version: 2\n"
        "listeners:\n"
        "  - name: internal\n"
        "    bnd: 127.0.0.1:8443\n"
        "    tls: {certificates: [{certificate: a.pem, private_key: a.key}], handshake_timeout: 10}\n"
        "    client_auth: {truststores: [partner]}\n"
        "    protocols: [h2]\n"
        "truststores:\n"
        "  partners:\n"
        "    trust_anchors: [ca.pem]\n"
        "    deny: [{serial: 0123}]\n"
        "routes:\n"
        "  - {name: r, allow: , upstream: u}\n"
        "user: ${NOBODY}\n"
        "user: twice\n"
    )
    assert refusal(path).splitlines() == [
        f"{path}:{line}"
        for line in [
            "1:10: version: must be 1, not 2",
            "3:5: listeners[0].bind: is required",
            "4:5: listeners[0].bnd: unknown key (did you mean bind?)",
            "5:88: listeners[0].tls.handshake_timeout: needs a unit: 10s, 10ms, 10m, 10h or 10d",
            "6:33: listeners[0].client_auth.truststores[0]: there is no truststore 'partner' (did you mean partners?)",
            "7:17: listeners[0].protocols[0]: not available in this version: HTTP/2; write [http/1.1]",
            "11:21: truststores.partners.deny[0].serial: must be a string, and YAML reads 0123 as something else: "
            'quote it ("0123")',
            "13:22: routes[0].allow: is empty (null): write a value, or remove the key",
            "13:34: routes[0].upstream: there is no upstream 'u'",
            "14:7: user: environment variable NOBODY is not set: set it for this command too (export, or "
            "Environment= of the service), or write the value here",
            "15:1: user: is written twice; the first is in line 14",
        ]
    ]  # fmt: skip


def test_errors_are_in_order_and_each_is_said_once() -> None:
    second, first = ConfigError("f", 2, 1, "b", "x"), ConfigError("f", 1, 9, "a", "y")
    assert ConfigErrors([second, first, second]).errors == (first, second)


def test_a_near_name_is_proposed_and_a_far_one_is_answered_with_the_list() -> None:
    assert did_you_mean("listner", ["listeners", "routes"]) == " (did you mean listeners?)"
    assert did_you_mean("x", ["listeners", "routes"]) == " (known: listeners, routes)"
    assert did_you_mean("x", []) == ""
