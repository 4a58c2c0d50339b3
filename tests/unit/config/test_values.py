"""Every kind of value, accepted and refused, through the whole file: what a key takes, and how it refuses."""

from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mtlsproxy.config.model import Bind, Config, Match, Upstream, UpstreamServer, UpstreamTls
from mtlsproxy.config.parse import LoadedConfig
from mtlsproxy.config.scalars import parse_bind

Accept = Callable[[dict[str, Any]], LoadedConfig]
Refuse = Callable[[dict[str, Any]], list[tuple[str, str]]]

LISTENER = "listeners.0"
STORE = "truststores.partners"
ROUTE = "routes.0"
UPSTREAM = "upstreams.orders"
SHA = "ab" * 32


def attribute(config: Config, path: str) -> object:
    value: Any = config
    for step in path.split("."):
        value = value[int(step)] if step.isdigit() else value[step] if isinstance(value, dict) else getattr(value, step)
    return value


@pytest.mark.parametrize(
    ("path", "written", "read"),
    [
        (f"{LISTENER}.timeouts.idle", "250ms", 0.25),
        (f"{LISTENER}.timeouts.idle", "10s", 10.0),
        (f"{LISTENER}.timeouts.idle", "5m", 300.0),
        (f"{LISTENER}.timeouts.idle", "1h", 3600.0),
        (f"{LISTENER}.timeouts.idle", "7d", 604800.0),
        ("shutdown.delay", "0s", 0.0),
        (f"{LISTENER}.limits.headers", 512, 512),
        (f"{LISTENER}.limits.headers", "512", 512),
        (f"{LISTENER}.limits.headers", "16KiB", 16384),
        (f"{LISTENER}.limits.body", "4MiB", 4 << 20),
        (f"{LISTENER}.limits.body", 0, 0),
        (f"{LISTENER}.limits.max_connections_per_ip", 0, 0),
        (f"{LISTENER}.bind", "[::1]:8443", Bind("::1", 8443)),
        (f"{LISTENER}.bind", "localhost:0", Bind("localhost", 0)),
        (f"{LISTENER}.tls.minimum_version", "TLSv1.3", "TLSv1.3"),
        (f"{LISTENER}.tls.certificates.0.certificate", "../a.pem", Path("/etc/proxy/../a.pem")),
        (f"{LISTENER}.tls.certificates.0.certificate", "/abs/a.pem", Path("/abs/a.pem")),
        (f"{LISTENER}.client_auth.missing_certificate", "http_400", "http_400"),
        (f"{LISTENER}.proxy_protocol", False, "off"),
        (f"{LISTENER}.proxy_protocol", "off", "off"),
        (f"{LISTENER}.proxy_protocol", "no", "off"),
        (f"{LISTENER}.proxy_protocol_from", ["10.0.0.0/8", "::1"], (ip_network("10.0.0.0/8"), ip_network("::1"))),
        (f"{STORE}.trust_anchors", ["*.pem", "d/"], (Path("/etc/proxy/*.pem"), Path("/etc/proxy/d"))),
        (f"{STORE}.max_chain_depth", 0, 0),
        (f"{STORE}.extended_key_usage.require", ["clientAuth"], ("1.3.6.1.5.5.7.3.2",)),
        (f"{STORE}.extended_key_usage.require", ["1.3.6.1.4.1.99999.2"], ("1.3.6.1.4.1.99999.2",)),
        (f"{STORE}.extended_key_usage.allow_any", True, True),
        (f"{STORE}.keys.minimum_rsa_bits", 3072, 3072),
        (f"{STORE}.keys.curves", ["P-384", "Ed448"], ("P-384", "Ed448")),
        (f"{STORE}.signature_hashes", ["sha512"], ("sha512",)),
        (f"{STORE}.certificate_policies", ["2.23.140.1.2.1"], ("2.23.140.1.2.1",)),
        (f"{STORE}.spiffe_trust_domain", None, None),
        (f"{STORE}.spiffe_trust_domain", "example.org", "example.org"),
        (f"{STORE}.revocation", {"mode": False}, None),
        (f"{STORE}.revocation.mode", "off", "off"),
        (f"{STORE}.revocation.mode", False, "off"),
        (f"{STORE}.revocation.mode", "soft_fail", "soft_fail"),
        (f"{STORE}.revocation.crl.sources", ["a.crl"], (Path("/etc/proxy/a.crl"),)),
        (f"{STORE}.revocation.short_lived", "1d", 86400.0),
        (f"{ROUTE}.allow", "any", "any"),
        (f"{ROUTE}.allow", [], ()),
        (f"{ROUTE}.hosts", ["a.example", "*.b.example", "192.0.2.1"], ("a.example", "*.b.example", "192.0.2.1")),
        (f"{ROUTE}.paths", ["/", "/a/", "/%C3%A9"], ("/", "/a/", "/%C3%A9")),
        (f"{ROUTE}.methods", ["GET", "M-SEARCH"], ("GET", "M-SEARCH")),
        (f"{ROUTE}.timeouts", {"response": "1s"}, None),
        (f"{UPSTREAM}.host", "server", "server"),
        (f"{UPSTREAM}.queue", 0, 0),
        (f"{UPSTREAM}.retries", 0, 0),
        ("identities", {"x": {"forms": ["xfcc"]}}, None),
        ("identities.default.prefix", "X-Who-", "X-Who-"),
        ("admin.metrics_bind", None, None),
        ("admin.metrics_bind", "0.0.0.0:9902", Bind("0.0.0.0", 9902)),
        ("logging.access", False, "off"),
        ("logging.access", "stderr", "stderr"),
        ("logging.access", "access.log", Path("/etc/proxy/access.log")),
        ("logging.access", "./stdot", Path("/etc/proxy/stdot")),
        ("workers", 1, 1),
    ],
)
def test_accepted_and_read_as(accepted: Accept, path: str, written: object, read: object) -> None:
    """None in `read`, for a mapping: that it is accepted is all."""
    value = attribute(accepted({path: written}).config, path)
    if read is not None or written is None:
        assert value == read


@pytest.mark.parametrize(
    ("path", "written", "words"),
    [
        ("version", 2, "must be 1, not 2"),
        ("version", "1", "must be 1, not '1': write it without quotes"),
        ("listeners", [], "needs at least one entry"),
        ("listeners", {"a": 1}, "must be a list"),
        ("truststores", ["a"], "must be a mapping"),
        (f"{LISTENER}.timeouts", 3, "must be a mapping"),
        (f"{LISTENER}.timeouts.idle", 10, "needs a unit: 10s"),
        (f"{LISTENER}.timeouts.idle", "10 s", "is not a duration"),
        (f"{LISTENER}.timeouts.idle", "1.5h", "is not a duration"),
        (f"{LISTENER}.timeouts.idle", "-1s", "is not a duration"),
        (f"{LISTENER}.timeouts.idle", "10s\n", "is not a duration"),
        (f"{LISTENER}.timeouts.idle", "١s", "is not a duration"),
        (f"{LISTENER}.timeouts.idle", "4000d", "longer than the 3650d"),
        (f"{LISTENER}.timeouts.idle", "0s", "must be more than 0"),
        (f"{LISTENER}.timeouts.idle", True, "must be a string such as 10s"),
        (f"{LISTENER}.limits.headers", "16kb", "is not a size"),
        (f"{LISTENER}.limits.headers", -1, "is not a size"),
        (f"{LISTENER}.limits.headers", 1.5, "must be a string such as 16KiB"),
        (f"{LISTENER}.limits.headers", "0", "must be more than 0"),
        (f"{LISTENER}.limits.body", "9999GiB", "more than the 1024GiB"),
        (f"{LISTENER}.limits.max_connections", 0, "must be at least 1"),
        (f"{LISTENER}.limits.max_connections", True, "must be a whole number, not true"),
        (f"{LISTENER}.limits.max_connections", "10", "must be a whole number, not '10': write it without quotes"),
        (f"{LISTENER}.limits.max_connections", "ten", "must be a whole number, not 'ten'"),
        (f"{LISTENER}.bind", "8443", "is not an address to listen on"),
        (f"{LISTENER}.bind", ":8443", "write 0.0.0.0:8443 or [::]:8443"),
        (f"{LISTENER}.bind", "::1:8443", "is not an address to listen on"),
        (f"{LISTENER}.bind", "127.0.0.1:99999", "not a port"),
        (f"{LISTENER}.bind", "127.0.0.256:1", "not an IPv4 address"),
        (f"{LISTENER}.bind", "[::x]:1", "not an IPv6 address"),
        (f"{LISTENER}.bind", "a b:1", "neither a host name nor an address"),
        (f"{LISTENER}.bind", 8443, "must be host:port"),
        (f"{LISTENER}.bind", "fd:", "does not name a socket"),
        (f"{LISTENER}.name", "a b", "is not a name"),
        (f"{LISTENER}.name", "a\n", "is not a name"),
        (f"{LISTENER}.name", 5, 'quote it ("5")'),
        (f"{LISTENER}.tls.minimum_version", "TLSv1.1", "must be TLSv1.2 or TLSv1.3, not 'TLSv1.1' (did you mean"),
        (f"{LISTENER}.tls.session_resumption", "yes please", "must be true or false"),
        (f"{LISTENER}.tls.session_resumption", "true", "must be true or false, not 'true': write it without quotes"),
        ("workers", "2", "must be a whole number, not '2': write it without quotes"),
        (f"{LISTENER}.tls.certificates", [], "needs at least one entry"),
        (f"{LISTENER}.tls.certificates.0.certificate", "", "is empty"),
        (f"{LISTENER}.tls.certificates.0.certificate", "~/a.pem", "~ is not expanded"),
        (f"{LISTENER}.tls.certificates.0.certificate", "a\x00b", "control character"),
        (f"{LISTENER}.tls.certificates.0.private_key_password_file", None, "is empty (null)"),
        (f"{LISTENER}.tls.ciphers", None, "is empty (null)"),
        (f"{LISTENER}.client_auth.truststores", [], "needs at least one entry"),
        (f"{LISTENER}.client_auth.truststores", ["partners", "partners"], "partners is listed twice"),
        (f"{LISTENER}.client_auth", None, "is empty (null)"),
        (f"{LISTENER}.protocols", [], "needs at least one entry"),
        (f"{LISTENER}.proxy_protocol", True, "must be off or v1 or v2, not true"),
        (f"{LISTENER}.proxy_protocol_from", ["10.0.0.1/8"], "write 10.0.0.0/8"),
        (f"{LISTENER}.proxy_protocol_from", ["lb"], "is not an address or a network"),
        (f"{STORE}.trust_anchors", [], "needs at least one entry"),
        (f"{STORE}.trust_anchors", "ca.pem", "must be a list"),
        (f"{STORE}.max_chain_depth", -1, "must be at least 0"),
        (f"{STORE}.max_chain_depth", 17, "must be at most 16"),
        (f"{STORE}.extended_key_usage.require", [], "needs at least one entry"),
        (f"{STORE}.extended_key_usage.require", ["anyExtendedKeyUsage"], "see allow_any"),
        (f"{STORE}.extended_key_usage.require", ["clientauth"], "is not an extended key usage: clientAuth"),
        (f"{STORE}.extended_key_usage.require", ["1.3.06"], "is not a dotted OID"),
        (f"{STORE}.keys.minimum_rsa_bits", 1024, "1024 is too weak"),
        (f"{STORE}.keys.minimum_rsa_bits", 32768, "more than the 16384 bits"),
        (f"{STORE}.keys.curves", ["p256"], "(did you mean P-256?)"),
        (f"{STORE}.signature_hashes", ["sha1"], "must be sha256 or sha384 or sha512"),
        (f"{STORE}.signature_hashes", [], "needs at least one entry"),
        (f"{STORE}.certificate_policies", ["1"], "is not a dotted OID"),
        (f"{STORE}.certificate_policies", ["3.1"], "is not a dotted OID"),
        (f"{STORE}.certificate_policies", ["1.40"], "is not a dotted OID"),
        (f"{STORE}.spiffe_trust_domain", "spiffe://example.org/x", "without spiffe://: example.org"),
        (f"{STORE}.spiffe_trust_domain", "Example.org", "is not a SPIFFE trust domain"),
        (f"{STORE}.spiffe_trust_domain", "", "is not a SPIFFE trust domain"),
        (f"{STORE}.revocation", None, "is empty (null)"),
        (f"{STORE}.revocation", {}, "mode is hard_fail, but nothing says who is revoked"),
        (f"{STORE}.revocation", {"mode": "soft_fail"}, "mode is soft_fail, but nothing says who is revoked"),
        (f"{STORE}.revocation.mode", "hardfail", "(did you mean hard_fail?)"),
        (f"{STORE}.revocation.mode", True, "must be hard_fail or soft_fail or off, not true"),
        (f"{STORE}.revocation.ocsp.responder", "ftp://x", "is not an http:// or https:// URL"),
        (f"{STORE}.revocation.ocsp.responder", "http://u:p@x/", "no user name or password"),
        (f"{STORE}.revocation.crl.sources", ["ftp://x/a.crl"], "is not an http:// or https:// URL"),
        (f"{STORE}.revocation.fetch.allowed_hosts", ["http://x"], "neither a host name nor an address"),
        (f"{STORE}.deny", None, "is empty (null)"),
        (f"{ROUTE}.allow", None, "is empty (null)"),
        (f"{ROUTE}.allow", [None], "is empty (null)"),
        (f"{ROUTE}.allow", "all", "must be any, not 'all'"),
        (f"{ROUTE}.allow", [{}], "would match everybody"),
        (f"{ROUTE}.allow", ["any"], "must be a mapping"),
        (f"{ROUTE}.allow", {"dns": "a"}, "must be a list"),
        (f"{ROUTE}.hosts", None, "is empty (null)"),
        (f"{ROUTE}.hosts", [], "needs at least one entry"),
        (f"{ROUTE}.hosts", ["a.example:443"], "without its port"),
        (f"{ROUTE}.hosts", ["https://a.example"], "without scheme or path"),
        (f"{ROUTE}.hosts", ["a.*"], "write a name, or *.suffix"),
        (f"{ROUTE}.hosts", ["*"], "write a name, or *.suffix"),
        (f"{ROUTE}.paths", ["orders"], "begins with /"),
        (f"{ROUTE}.paths", ["/a?b"], "without query"),
        (f"{ROUTE}.paths", ["/é"], "percent-encoded"),
        (f"{ROUTE}.paths", ["/a%zz"], "two hexadecimal digits"),
        (f"{ROUTE}.paths", ["/a%00"], "never %00"),
        (f"{ROUTE}.paths", ["/a//b"], "several ways"),
        (f"{ROUTE}.paths", ["/a/%2E./b"], "several ways"),
        (f"{ROUTE}.paths", ["/a/..;/b"], "several ways"),
        (f"{ROUTE}.paths", ["/a%2Fb"], "several ways"),
        (f"{ROUTE}.paths", ["/a\\b"], "several ways"),
        (f"{ROUTE}.methods", ["get"], "(did you mean GET?)"),
        (f"{ROUTE}.methods", ["CONNECT"], "is unknown here"),
        (f"{ROUTE}.enforce", "no way", "must be true or false"),
        (f"{UPSTREAM}.servers", [], "needs at least one entry"),
        (f"{UPSTREAM}.servers.0.url", "127.0.0.1:9000", "is not http://host:port"),
        (f"{UPSTREAM}.servers.0.url", "http://h/path", "scheme, host and port alone"),
        (f"{UPSTREAM}.servers.0.url", "http://u@h", "scheme, host and port alone"),
        (f"{UPSTREAM}.servers.0.url", "http://h:0", "port 0"),
        (f"{UPSTREAM}.servers.0.url", "http://", "neither a host name nor an address"),
        (f"{UPSTREAM}.retries", 11, "must be at most 10"),
        ("identities.default.forms", ["field"], "(did you mean fields?)"),
        ("identities.default.prefix", "", "is not the beginning of a header name"),
        ("identities.default.prefix", "X-Client", "must end in -"),
        ("identities.default.prefix", "X_Client-", "is not the beginning of a header name"),
        ("identities.default.prefix", "Content-", "would remove headers that requests need (content-length)"),
        ("identities.default.prefix", "X-", "would remove headers that requests need (x-forwarded-for)"),
        ("identities.default.prefix", "X-Client-\n", "is not the beginning of a header name"),
        ("identities.default.principal", ["cn"], "must be spiffe or uri"),
        ("admin.allowed_hosts", ["a/b"], "neither a host name nor an address"),
        ("admin.bind", None, "is empty (null)"),
        ("logging.level", "verbose", "must be debug or info or warning or error"),
        ("logging.access", "stdot", "did you mean stdout?"),
        ("logging.access", True, "must be stdout or stderr or off"),
        ("logging.access", None, "is empty (null)"),
        ("workers", 0, "must be at least 1"),
        ("workers", "many", "must be auto"),
        ("shutdown.drain", "soon", "is not a duration"),
    ],
)
def test_refused_in_words(refused: Refuse, path: str, written: object, words: str) -> None:
    """Exactly one error, at the key (or at one of its items)."""
    ((place, message),) = refused({path: written})
    assert words in message
    steps = path.replace(".0", "[0]")
    assert place == steps or place.startswith((f"{steps}[", f"{steps}."))


SHORT = {"fingerprint_sha256": "ab", "spki_sha256": SHA + "00", "serial": "0" * 66}


@pytest.mark.parametrize(
    ("field", "good"),
    [
        ("common_name", "orders service"),
        ("organization", "Beispiel GmbH & Söhne"),
        ("organizational_unit", "payments"),
        *[("dns", name) for name in ("a.example", "*.clients.example.org", "**.example", "a_b.example", "localhost")],
        ("uri", "spiffe://example.org/ns/*/sa/orders"),
        ("uri", "spiffe://example.org/ns/**"),
        ("uri", "https://*.example.org/x"),
        ("uri", "urn:example:*"),
        ("email", "a@b.example"),
        ("email", "*@*.example"),
        ("ip", "192.0.2.1"),
        ("ip", "2001:db8::/32"),
        ("serial", "04:D2"),
        ("serial", "0123"),
        ("issuer", "CN=Client CA,O=Example"),
        ("fingerprint_sha256", SHA),
        ("fingerprint_sha256", ":".join(["AB"] * 32)),
        ("spki_sha256", SHA.upper()),
        ("policy_oid", "1.3.6.1.4.1.99999.1"),
    ],
)
def test_matchers_are_kept_as_they_were_written(accepted: Accept, field: str, good: str) -> None:
    config = accepted({f"{ROUTE}.allow": [{field: good}], f"{STORE}.deny": [{field: good}]}).config
    assert config.routes[0].allow == (Match(**{field: good}),)
    assert getattr(config.truststores["partners"].deny[0], field) == good


@pytest.mark.parametrize(
    ("field", "bad", "words"),
    [
        ("common_name", "", "is empty"),
        ("common_name", "a\x00b", "control character"),
        ("organization", None, "is empty (null)"),
        ("dns", "sa-*.example", "one whole label"),
        ("dns", "***.example", "one whole label"),
        ("dns", "a..example", "is not a DNS name"),
        ("dns", "bücher.example", "xn-- form"),
        ("dns", "192.0.2.1", "match it with ip"),
        ("dns", "a.example\n", "is not a DNS name"),
        ("uri", "orders", "is not a URI"),
        ("uri", "spiffe://example.org/ns/x*", "one whole segment"),
        ("uri", "urn:example:x*", "one whole segment"),
        ("uri", "spiffe://a*.example.org/ns", "one whole segment"),
        ("uri", "spiffe://a/b c", "is not a URI"),
        ("email", "example.org", "is not an e-mail address"),
        ("email", "a@sa-*.example", "one whole label"),
        ("ip", "192.0.2.1/24", "write 192.0.2.0/24"),
        ("ip", "host", "is not an address"),
        ("serial", 123, 'quote it ("123")'),
        ("serial", "0x12", "is not hexadecimal"),
        ("serial", "12:3", "is not hexadecimal"),
        ("serial", SHORT["serial"], "longer than any serial number"),
        ("fingerprint_sha256", SHORT["fingerprint_sha256"], "has 2 hexadecimal digits"),
        ("spki_sha256", SHORT["spki_sha256"], "has 66 hexadecimal digits"),
        ("issuer", "Client CA", "is not a distinguished name"),
        ("policy_oid", "anyPolicy", "is not a dotted OID"),
        ("dnss", "a", "unknown key (did you mean dns?)"),
    ],
)
@pytest.mark.parametrize("place", [f"{ROUTE}.allow", f"{ROUTE}.deny", f"{STORE}.deny"])
def test_matchers_that_could_never_match_are_refused(
    refused: Refuse, place: str, field: str, bad: object, words: str
) -> None:
    ((path, message),) = refused({place: [{field: bad}]})
    assert path == f"{place.replace('.0', '[0]')}[0].{field}"
    assert words in message


def test_deny_entries_may_expire(accepted: Accept, refused: Refuse) -> None:
    place = f"{STORE}.deny"
    entry = {"serial": "01", "expires": "2030-01-31T02:00:00+02:00", "reason": "lost"}
    read = accepted({place: [entry]}).config.truststores["partners"].deny[0]
    assert read.expires == datetime(2030, 1, 31, tzinfo=UTC)
    for bad, words in [
        ("2030-01-31T00:00:00", "needs a zone"),
        ("soon", "is not a date and time"),
        ("0001-01-01T00:00:00+10:00", "outside the years"),
        (None, "is empty (null)"),
    ]:
        ((_, message),) = refused({place: [{"serial": "01", "expires": bad}]})
        assert words in message
    ((path, message),) = refused({place: [{"expires": "2030-01-31T00:00:00Z"}]})
    assert (path, "would match everybody" in message) == ("truststores.partners.deny[0]", True)
    ((path, message),) = refused({f"{ROUTE}.deny": [{"dns": "a", "expires": "2030-01-31T00:00:00Z"}]})
    assert "unknown key" in message, "a route's entries do not expire"


def test_defaults_are_those_of_the_reference(accepted: Accept) -> None:
    config = accepted({}).config
    listener, upstream = config.listeners[0], config.upstreams["orders"]
    assert listener.limits.request_line == 8192
    assert listener.limits.headers == 65536
    assert (listener.timeouts.idle, listener.tls.client_hello_timeout) == (75.0, 2.0)
    assert listener.protocols == ("http/1.1",)
    assert config.truststores["partners"].revocation is not None
    assert config.truststores["partners"].revocation.mode == "hard_fail"
    assert (upstream.queue, upstream.retries, upstream.max_connections) == (1024, 1, 512)
    assert config.identities["default"].prefix == "X-Client-"
    assert str(config.admin.bind) == "127.0.0.1:9901"
    assert (config.logging.access, config.workers, config.shutdown.drain) == ("stdout", 1, 30.0)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("0.0.0.0:1", False), ("a.example:1", False)],
)
def test_a_bind_prints_as_written_and_knows_whether_it_is_loopback(text: str, loopback: bool) -> None:
    bind = parse_bind(text)
    assert (str(bind), bind.is_loopback) == (text, loopback)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://a.example", ("http", "a.example", 80, None, "a.example")),
        ("https://a.example:8443/", ("https", "a.example", 8443, None, "a.example:8443")),
        ("https://a.example:443", ("https", "a.example", 443, None, "a.example")),
        ("http://a.example:443", ("http", "a.example", 443, None, "a.example:443")),
        ("http://[::1]:9000", ("http", "::1", 9000, None, "[::1]:9000")),
        ("http://[::1]", ("http", "::1", 80, None, "[::1]")),
        ("unix:/run/a.sock", ("unix", "", 0, Path("/run/a.sock"), "localhost")),
    ],
)
def test_a_server_url_comes_apart(url: str, parts: tuple[object, ...]) -> None:
    """The last is what goes into Host with `host: server`."""
    server = UpstreamServer(url=url)
    assert (server.scheme, server.host, server.port, server.socket_path, server.authority) == parts


def test_the_path_of_a_unix_socket_is_no_longer_than_the_kernel_takes() -> None:
    assert UpstreamServer(url="unix:/" + "a" * 106).socket_path == Path("/" + "a" * 106)
    with pytest.raises(ValueError, match="107 bytes at most"):
        UpstreamServer(url="unix:/" + "a" * 107)


def test_tls_towards_an_upstream_needs_trust_anchors_and_a_key_with_its_certificate() -> None:
    https = UpstreamServer(url="https://a.example")
    tls = UpstreamTls(trust_anchors=(Path("ca.pem"),), certificate=Path("c.pem"), private_key=Path("c.key"))
    assert Upstream(servers=(https,), tls=tls).tls == tls
    with pytest.raises(ValueError, match=r"no tls\.trust_anchors: the system's CAs are never used"):
        Upstream(servers=(https,))
    with pytest.raises(ValueError, match="belong together"):
        UpstreamTls(trust_anchors=(Path("ca.pem"),), certificate=Path("c.pem"))


def test_a_socket_of_systemd_needs_its_name() -> None:
    assert parse_bind("fd:public") == Bind("", 0, "public")
    with pytest.raises(ValueError, match="does not name a socket"):
        parse_bind("fd:")


def test_the_model_cannot_be_changed_afterwards(accepted: Accept) -> None:
    config = accepted({}).config
    with pytest.raises(ValueError, match="frozen"):
        config.workers = 2  # type: ignore[misc]
