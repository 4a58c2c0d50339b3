"""Who came and who was turned away, as the admin tells it of a proxy that real clients call."""

import json
import ssl
import urllib.error
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.integration.certificates import identity, issue, names
from tests.integration.clients import alert, client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree, eventually

from mtlsproxy.x509.certificate import serial_hex

Found = dict[str, Any]


def clients(proxy: RunningProxy) -> list[Found]:
    found: list[Found] = json.loads(proxy.admin("/api/clients"))["clients"]
    return found


def rejection(proxy: RunningProxy, ident: str) -> Found:
    found: Found = json.loads(proxy.admin(f"/api/rejections/{ident}"))
    return found


def ders(pem: str) -> list[bytes]:
    return [each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(pem.encode())]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_refusal_in_the_handshake_is_found_by_its_id_with_what_was_presented(
    material: Material, config: Tree, start: Start, version: ssl.TLSVersion
) -> None:
    stranger = material.dev_client("stranger", "DNS:stranger.test")  # its chain, of a CA that this proxy does not trust
    proxy = start(config)
    alert(proxy.port(), client_context(material.root, stranger, version))
    (line,) = eventually(proxy.rejections)
    assert line["request_id"] and line["reason"] == "untrusted_issuer"
    found = rejection(proxy, line["request_id"])
    assert {key: value for key, value in found.items() if key != "presented"} == line
    presented = ders(found["presented"])
    assert presented[0] == stranger.der and len(presented) == 2
    assert proxy.refusal()["request_id"] == line["request_id"], "the log names the same id"


def test_a_refused_request_is_found_by_the_id_that_its_client_was_told(
    material: Material, config: Tree, start: Start
) -> None:
    config["routes"][0]["allow"] = [{"dns": "somebody.else.test"}]
    alice = material.client()
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, alice)) as connection:
        told = connection.get("/").problem
        kept = connection.get("/", "X-Request-Id: chosen.by-client").problem
    assert kept["request_id"] == "chosen.by-client"
    for problem in (told, kept):
        found = rejection(proxy, problem["request_id"])
        assert (found["reason"], found["path"]) == ("not_allowed", "/")
        assert ders(found["presented"]) == [alice.der]


def test_an_unknown_id_is_a_problem_that_says_what_is_known(config: Tree, start: Start) -> None:
    proxy = start(config)
    with pytest.raises(urllib.error.HTTPError) as raised:
        proxy.admin("/api/rejections/nobody")
    assert raised.value.code == 404
    assert "the latest 500" in json.loads(raised.value.read())["detail"]


def test_no_certificate_has_an_empty_chain(material: Material, config: Tree, start: Start) -> None:
    proxy = start(config)
    alert(proxy.port(), client_context(material.root))
    (line,) = eventually(proxy.rejections)
    assert rejection(proxy, line["request_id"])["presented"] == ""


def test_the_inventory_says_who_came_when_and_where_to(material: Material, config: Tree, start: Start) -> None:
    config["routes"] = [
        {"name": "closed", "paths": ["/closed"], "allow": [{"dns": "somebody.else.test"}], "upstream": "recorder"},
        {"name": "orders", "paths": ["/orders"], "allow": "any", "upstream": "recorder"},
        {"name": "all", "allow": "any", "upstream": "recorder"},
    ]
    alice = material.client()
    proxy = start(config)
    assert clients(proxy) == []
    with tls(proxy.port(), client_context(material.root, alice)) as connection:
        connection.get("/closed")
        (known,) = clients(proxy)
        assert (known["open"], known["routes"]) == (1, [])
        for path in ("/orders/1", "/orders/2", "/", "/orders/3"):
            connection.get(path)
        (known,) = clients(proxy)
        assert known["routes"] == ["orders", "all"]
    (known,) = eventually(lambda: [each for each in clients(proxy) if each["open"] == 0])
    with tls(proxy.port(), client_context(material.root, alice)) as connection:
        connection.get("/")
        (again,) = clients(proxy)
    assert (again["connections"], again["routes"]) == (2, ["orders", "all"])
    leaf = x509.load_der_x509_certificate(alice.der)
    assert known["fingerprint"] == again["fingerprint"]
    assert again["identity"] == "alice.clients.test"
    assert (again["subject"], again["issuer"]) == (leaf.subject.rfc4514_string(), leaf.issuer.rfc4514_string())
    assert again["serial"] == serial_hex(leaf.serial_number)
    assert again["truststore"] == "partners"
    assert again["not_after"].startswith(leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%S"))
    assert known["first_seen"] == again["first_seen"] <= known["last_seen"] <= again["last_seen"]


def test_who_was_never_accepted_is_not_in_the_inventory(material: Material, config: Tree, start: Start) -> None:
    proxy = start(config)
    alert(proxy.port(), client_context(material.root, material.dev_client("outsider", "DNS:outsider.test")))
    no_eku = identity(material.folder, issue("bare", material.ca, sans=names("DNS:bare.test"), eku=None))
    with tls(proxy.port(), client_context(material.root, no_eku)) as connection:
        assert connection.get("/").status == 403
    eventually(lambda: len(proxy.rejections()) >= 2)
    assert clients(proxy) == []


def test_a_client_keeps_its_entry_over_a_change_of_trust_on_an_open_connection(
    material: Material, config: Tree, start: Start
) -> None:
    """Judged again, it is the same visitor: its routes count on, and when it leaves it leaves once."""
    alice = material.client()
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, alice)) as connection:
        connection.get("/")
        proxy.call(proxy.proxy._renew)
        connection.get("/")
        (known,) = clients(proxy)
        assert (known["open"], known["connections"], known["routes"]) == (1, 1, ["all"])
    (known,) = eventually(lambda: [each for each in clients(proxy) if not each["open"]])
    assert known["connections"] == 1
