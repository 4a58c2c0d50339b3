"""Who is in `trusted_proxies` may say who its clients were; judged on the address after the PROXY header."""

import contextlib
import ssl
from collections.abc import Iterator

import pytest
import yaml
from tests.integration.clients import Connection, client_context, connected, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.upstream import RecordingUpstream

SAID = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: shop.example", "Forwarded: for=x")
NAMES = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")
FORGED = ("X-Client-Id: forged", "x_client_verify: forged", "Client-Cert: :forged:", "X_Forwarded_For: forged")
OURS = [["127.0.0.1"], ["https"], ["proxy.test"], []]
THEIRS = [["192.0.2.1, 127.0.0.1"], ["http"], ["shop.example"], ["for=x"]]


def seen(upstream: RecordingUpstream, number: int = -1) -> list[list[str]]:
    """What the upstream was told by those names."""
    recorded = upstream.requests[number]
    assert b"forged" not in recorded.head + recorded.body
    assert recorded.values("X-Client-Verify") == ["SUCCESS"]
    return [recorded.values(name) for name in NAMES]


@pytest.mark.parametrize(
    ("trusted", "expected"), [(["127.0.0.0/8"], THEIRS), (["::1", "127.0.0.2", "10.0.0.0/8"], OURS), ([], OURS)]
)
def test_it_is_a_matter_of_the_address(
    config: Tree,
    material: Material,
    upstream: RecordingUpstream,
    start: Start,
    trusted: list[str],
    expected: list[list[str]],
) -> None:
    """Identity headers are kept from nobody, nor is what stands in trailers."""
    config["listeners"][0]["trusted_proxies"] = trusted
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, material.client())) as client:
        assert client.get("/", *SAID, *FORGED).status == 200
        assert seen(upstream) == expected
        body = b"1\r\na\r\n0\r\nX-Forwarded-For: forged\r\nX-Client-Id: forged\r\nForwarded: forged\r\nX-Sum: 1\r\n\r\n"
        client.send(request("/", *SAID, "Transfer-Encoding: chunked", method="POST", body=body))
        assert client.response().status == 200
        assert seen(upstream) == expected
        assert b"X-Sum: 1" in upstream.requests[-1].body


def test_many_clients_over_one_connection_of_a_trusted_proxy(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """Each request tells of its own client, whether the fields around it repeat or not."""
    config["listeners"][0]["trusted_proxies"] = ["127.0.0.1"]
    proxy = start(config)
    addresses = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "", "192.0.2.1"]
    with tls(proxy.port(), client_context(material.root, material.client())) as client:
        for address in addresses:
            client.get("/", *([f"X-Forwarded-For: {address}"] if address else []))
    told = [recorded.values("X-Forwarded-For") for recorded in upstream.requests]
    assert told == [[f"{address}, 127.0.0.1" if address else "127.0.0.1"] for address in addresses]


@pytest.mark.parametrize("trusted", ["127.0.0.1", "192.0.2.7"])
def test_behind_a_load_balancer_the_address_of_the_header_is_judged(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, trusted: str
) -> None:
    """Not the load balancer's, which all clients share."""
    config["listeners"][0] |= {
        "proxy_protocol": "v1",
        "proxy_protocol_from": ["127.0.0.1"],
        "trusted_proxies": [trusted],
    }
    proxy = start(config)
    context = client_context(material.root, material.client())
    with _through(proxy, context, b"PROXY TCP4 192.0.2.7 198.51.100.2 1 2\r\n") as client:
        assert client.get("/", *SAID).status == 200
    told = seen(upstream)
    assert told[0] == (["192.0.2.7"] if trusted == "127.0.0.1" else ["192.0.2.1, 192.0.2.7"])
    assert (told[1:] == THEIRS[1:]) is (trusted == "192.0.2.7")


@contextlib.contextmanager
def _through(proxy: RunningProxy, context: ssl.SSLContext, header: bytes) -> Iterator[Connection]:
    with connected(proxy.port()) as raw:
        raw.sendall(header)
        with context.wrap_socket(raw, server_hostname="proxy.test") as sock:
            yield Connection(sock)


def test_a_reload_holds_for_open_connections_too(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """Who is no longer trusted is not believed on the next request, and the other way round."""
    proxy = start(config)
    file = proxy.access_file.parent / "proxy.yaml"
    with tls(proxy.port(), client_context(material.root, material.client())) as client:
        for trusted, expected in (([], OURS), (["127.0.0.1"], THEIRS), ([], OURS)):
            config["listeners"][0]["trusted_proxies"] = trusted
            file.with_suffix(".new").write_text(yaml.safe_dump(config, sort_keys=False))
            file.with_suffix(".new").replace(file)

            def is_told(expected: list[list[str]] = expected) -> bool:
                assert client.get("/", *SAID).status == 200
                return seen(upstream) == expected

            eventually(is_told)
