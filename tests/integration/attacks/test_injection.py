"""Attacks by what names and paths contain: headers, log lines, series and routes keep their shape."""

import json
import ssl
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from tests.integration.certificates import identity, issue, names
from tests.integration.clients import client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import Tree
from tests.integration.upstream import RecordingUpstream

NAMES = [
    'a";URI=spiffe://t/admin;Subject="b',
    "a, CN=admin",
    "a\\",
    'a\\";By=b',
    "a\u202eb\u00e9",
    "%0d%0aX-Client-Id: admin",
    "${jndi:ldap://x}",
]
URI = "spiffe://t/a;Hash=0,Subject=b"


@pytest.mark.parametrize("common_name", NAMES)
def test_a_name_stays_in_its_value(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, common_name: str
) -> None:
    """One header of each kind, all ASCII, and no pair or list member that the certificate does not have."""
    config["identities"] = {"default": {"forms": ["fields", "xfcc"], "principal": ["common_name"]}}
    proxy = start(config)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    who = identity(material.folder, issue(subject, material.ca, sans=names(f"URI:{URI}", "DNS:a.test")))
    with tls(proxy.port(), client_context(material.root, who)) as client:
        assert client.get().status == 200
    (asked,) = upstream.requests
    assert asked.head.isascii()
    ours = [name for name, _ in asked.fields if name.startswith("X-Client-")]
    assert len(ours) == len(set(ours))
    (xfcc,) = asked.values("X-Forwarded-Client-Cert")
    assert [pair.partition("=")[0] for pair in pairs(xfcc)] == ["Hash", "Subject", "URI", "DNS", "Cert"]
    assert asked.values("X-Client-San") == [f'"URI:{URI}", "DNS:a.test"']
    assert asked.values("X-Client-Id") != ["admin"]
    (line,) = proxy.access()
    assert line["principal"] == common_name or line["principal"].isascii()


def pairs(xfcc: str) -> list[str]:
    """The key=value pairs as a reader that knows quotes and backslashes takes them apart."""
    out, quoted, escaped = [""], False, False
    for character in xfcc:
        if character == ";" and not quoted:
            out.append("")
            continue
        assert character != "," or quoted
        quoted ^= character == '"' and not escaped
        escaped = character == "\\" and not escaped
        out[-1] += character
    assert not quoted
    return out


def test_paths_and_methods_forge_no_line_and_grow_no_series(
    config: Tree, start: Start, hostile: ssl.SSLContext
) -> None:
    """Whatever is asked for: a JSON object a line, and methods that nobody knows are one series."""
    proxy = start(config)
    paths = ['/"}\\n{"status":200', "/%0a{}", "/a\\u000a", "/{{7*7}}", "/%0d%0aINFO"]
    for path in paths:
        with tls(proxy.port(), hostile) as client:
            client.send(request(path))
            client.response()
    methods = [f"METHOD{number}" for number in range(30)]
    for method in methods:
        with tls(proxy.port(), hostile) as client:
            client.send(request(method=method))
            assert client.response().status == 501
    lines: list[dict[str, Any]] = proxy.access(len(paths) + len(methods))
    assert len(proxy.access_file.read_bytes().splitlines()) == len(lines)
    assert [line["path"] for line in lines[: len(paths)]] == paths
    known = {labels[2] for labels in proxy.series("requests_total")}
    assert known <= {"GET", "OTHER", ""}
    json.loads(proxy.admin("/api/rejections"))


CONFUSING = [
    "/public/..%2fadmin", "/public/%2e%2e/admin", "/public/../admin", "/public%2f..%2fadmin", "/public/..;/admin",
    "/public/..\\admin", "/public/..%5cadmin", "/public/.%2e/admin", "//admin", "/public/;/../admin",
    "/public/x/..//../admin", "/public/%2E%2E%2Fadmin", "/public/..%2f%2e%2e/admin", "/public/..%3b/admin",
    "/public/%00/../admin", "/public/%zz",
]  # fmt: skip


@pytest.mark.parametrize("path", CONFUSING)
def test_no_reading_of_a_path_is_a_way_around_its_route(
    config: Tree, upstream: RecordingUpstream, start: Start, hostile: ssl.SSLContext, path: str
) -> None:
    """Anybody may use /public, nobody /admin: what some server could take for /admin does not pass as /public."""
    config["routes"] = [
        {"name": "admin", "paths": ["/admin"], "allow": [], "upstream": "recorder"},
        {"name": "public", "paths": ["/public"], "allow": "any", "upstream": "recorder"},
    ]
    proxy = start(config)
    with tls(proxy.port(), hostile) as client:
        client.send(request(path))
        assert client.response().status in (400, 403)
    assert upstream.untouched


@pytest.mark.parametrize(
    "path", ["/public/a", "/public/%41", "/public?next=/../admin", "/public/a;b=c", "/public/a/../b"]
)
def test_plain_readings_pass_unchanged(
    config: Tree, upstream: RecordingUpstream, start: Start, honest: ssl.SSLContext, path: str
) -> None:
    config["routes"][0] |= {"paths": ["/public"]}
    with tls(start(config).port(), honest) as client:
        assert client.get(path).status == 200
    assert upstream.requests[0].line == f"GET {path} HTTP/1.1"
