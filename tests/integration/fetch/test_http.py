"""The bounded client against real servers: what it returns and refuses, and that what is refused is never asked."""

import asyncio
import gzip
import socket
import ssl
import threading
import time

import pytest
import trustme
from aiohttp import web

from mtlsproxy.fetch.http import Fetched, Fetcher, Validators
from mtlsproxy.fetch.rules import FetchError, FetchFailure, FetchRules

RULES = {"configured_hosts": ["127.0.0.1"], "max_size": 100_000, "timeout": 5.0}


async def get(
    url: str, named_by: str = "configuration", validators: Validators | None = None, **rules: object
) -> Fetched:
    fetcher = Fetcher(FetchRules.of(**{**RULES, **rules}))
    try:
        return await fetcher.get(url, named_by, validators)
    finally:
        await fetcher.close()


async def refused(url: str, failure: FetchFailure, named_by: str = "configuration", **rules: object) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await get(url, named_by, **rules)
    assert caught.value.failure is failure, caught.value.detail
    assert url.split("?")[0] in caught.value.detail
    return caught.value


async def test_a_good_answer_comes_whole_with_its_validators(server):
    server.tagged("/a.crl", b"list", '"one"')
    answer = await get(server.url("/a.crl"))
    assert answer.body == b"list"
    assert answer.validators == Validators('"one"', "Sun, 01 Jun 2025 11:00:00 GMT")


async def test_validators_make_a_request_conditional(server):
    server.tagged("/a.crl", b"list", '"one"')
    assert (await get(server.url("/a.crl"), validators=Validators('"one"'))).body is None
    assert (await get(server.url("/a.crl"), validators=Validators('"old"', "x"))).body == b"list"
    assert server.asked[1].headers["If-Modified-Since"] == "x"


async def test_a_304_that_nobody_asked_for_is_an_error(server):
    server.give("/a.crl", b"", 304)
    await refused(server.url("/a.crl"), FetchFailure.STATUS)


async def test_requests_carry_nothing_of_the_environment(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.give("/a.crl", b"list", Set_Cookie="a=b")
    fetcher = Fetcher(FetchRules.of(**RULES))
    for _ in range(2):
        assert (await fetcher.get(server.url("/a.crl"), "configuration")).body == b"list"
    await fetcher.close()
    for asked in server.asked:
        assert not {"Cookie", "Authorization", "Proxy-Authorization", "Referer"} & asked.headers.keys()
        assert asked.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(404, False), (403, False), (410, False), (401, False), (500, True), (503, True), (429, True)],
)
async def test_other_answers_are_errors_and_say_whether_to_try_again(server, status, retryable):
    server.give("/a.crl", b"no", status)
    error = await refused(server.url("/a.crl"), FetchFailure.STATUS)
    assert error.retryable is retryable
    assert str(status) in error.detail


async def test_a_dead_server_is_unreachable(closed_port):
    error = await refused(f"http://127.0.0.1:{closed_port}/", FetchFailure.UNREACHABLE)
    assert error.retryable
    assert error.detail.endswith(f": cannot connect to 127.0.0.1:{closed_port}: Connection refused")


async def test_a_name_that_does_not_resolve_is_unreachable():
    error = await refused("http://nobody.invalid/", FetchFailure.UNREACHABLE, configured_hosts=["nobody.invalid"])
    assert "cannot connect to nobody.invalid:80: " in error.detail


# Redirects


async def test_redirects_among_allowed_hosts_are_followed(server):
    server.redirect("/one", "/two")
    server.redirect("/two", server.url("/three", "localhost"), 307)
    server.give("/three", b"list")
    assert (await get(server.url("/one"), allowed_hosts=["localhost"])).body == b"list"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_elsewhere_are_refused_and_never_asked(server, status):
    server.redirect("/one", server.url("/secret", "localhost"), status)
    error = await refused(server.url("/one"), FetchFailure.NOT_ALLOWED)
    assert "localhost" in error.detail
    assert not error.retryable
    assert server.paths() == ["/one"]


@pytest.mark.parametrize(
    "to",
    ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "data:,x", "javascript:1", "http:///x",
     "http://a:b@127.0.0.1/", "http://127.0.0.1@localhost/", "//localhost/secret", "http://[::1]/", "http://2130706433/",
     "http://0x7f.1/", "http://127.1/", "http://0177.0.0.1/", "http://169.254.169.254/latest", "http://[fe80::1%25lo]/",
     "http://localhost\\@127.0.0.1/", "https://127.0.0.1/", "http://[::ffff:127.0.0.1]/", "http://127.0.0.1:99999/"],
)  # fmt: skip
async def test_no_spelling_of_a_redirect_leads_out(server, to):
    server.redirect("/one", to)
    await refused(server.url("/one"), FetchFailure.NOT_ALLOWED)
    assert server.paths() == ["/one"]


async def test_redirects_are_counted(server):
    for number in range(10):
        server.redirect(f"/{number}", f"/{number + 1}")
    server.give("/5", b"list")
    assert (await get(server.url("/0"))).body == b"list"
    server.redirect("/5", "/6")
    server.asked.clear()
    error = await refused(server.url("/0"), FetchFailure.NOT_ALLOWED)
    assert "redirects" in error.detail
    assert len(server.asked) == 6


async def test_a_redirect_without_location_is_an_error(server):
    server.give("/one", b"", 302)
    await refused(server.url("/one"), FetchFailure.PROTOCOL)


# What certificates may name


async def test_a_certificate_may_name_an_allowed_host(server):
    server.give("/a.crl", b"list")
    assert (await get(server.url("/a.crl", "localhost"), "certificate", allowed_hosts=["LocalHost"])).body == b"list"
    assert (await get(server.url("/a.crl"), "certificate", allowed_hosts=["127.0.0.1"])).body == b"list"


async def test_a_certificate_may_not_name_a_host_of_the_configuration(server):
    server.give("/a.crl", b"list")
    await refused(server.url("/a.crl"), FetchFailure.NOT_ALLOWED, "certificate")
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ldap://127.0.0.1/cn=ca?certificateRevocationList", "HTTP://evil.example/", "http://", "",
     "not a url", "http://allowed.example@evil.example/", "http://evil.example#allowed.example",
     "http://allowed.example.evil.example/", "http://[::1", "http://allowed.example:x/", "http://\u0430llowed.example/"],
)  # fmt: skip
async def test_a_certificate_may_name_nothing_else(url):
    await refused(url, FetchFailure.NOT_ALLOWED, "certificate", allowed_hosts=["allowed.example"])


class Names:
    """The system's resolver, answering as the owner of a name likes; every answer the next one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        monkeypatch.setattr(socket, "getaddrinfo", self.resolve)

    def resolve(self, host: str, port: int, **_: object) -> list[object]:
        self.asked.append(host)
        address = self.answers.pop(0)
        family = 10 if ":" in address else 2
        return [(family, 1, 6, "", (address, port, 0, 0) if family == 10 else (address, port))]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "169.254.169.254", "0.0.0.0", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
)
async def test_an_allowed_name_that_leads_to_this_host_is_refused(server, monkeypatch, address):
    Names(monkeypatch, address)
    url = server.url("/a.crl", "crl.partner.example")
    error = await refused(url, FetchFailure.NOT_ALLOWED, "certificate", allowed_hosts=["crl.partner.example"])
    assert "resolves to" in error.detail
    assert server.asked == []


async def test_a_name_is_resolved_once_and_connected_to_as_it_was_judged(server, monkeypatch):
    """DNS rebinding: what a second look-up would say is never asked for."""
    names = Names(monkeypatch, "127.0.0.1", "169.254.169.254")
    server.give("/a.crl", b"list")
    url = server.url("/a.crl", "crl.partner.example")
    answer = await get(url, "certificate", allowed_hosts=["crl.partner.example", "127.0.0.1"])
    assert answer.body == b"list"
    assert names.asked == ["crl.partner.example"]


async def test_names_that_are_looked_up_for_ever_keep_nothing_else_waiting(server, monkeypatch):
    """The owner of an allowed name lets its look-ups hang: neither the others nor the loop's threads wait for them."""
    go, asked, known = threading.Event(), [], socket.getaddrinfo

    def resolve(host: str, *rest: object, **options: object) -> list[object]:
        asked.append(host)
        if host == "hanging.example":
            go.wait(20)
        return known("127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    server.give("/a", b"list")
    rules = FetchRules.of(configured_hosts=["hanging.example", "a.example"], max_size=1000, timeout=0.2)
    fetcher = Fetcher(rules)
    threads = threading.active_count()
    hanging = [fetcher.get(server.url("/a", "hanging.example"), "configuration") for _ in range(50)]
    found = await asyncio.gather(*hanging, return_exceptions=True)
    assert {error.failure for error in found} == {FetchFailure.TIMEOUT}
    assert asked == ["hanging.example"]
    assert threading.active_count() == threads + 1
    assert (await fetcher.get(server.url("/a", "a.example"), "configuration")).body == b"list"
    assert await asyncio.to_thread(lambda: True)
    go.set()
    ends = time.monotonic() + 10
    while threading.active_count() > threads + 1:  # the loop's own is left
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)
    assert (await fetcher.get(server.url("/a", "hanging.example"), "configuration")).body == b"list"
    await fetcher.close()


async def test_a_host_that_can_be_no_name_is_unreachable():
    """Not an error that nobody foresaw: it would end the helper process, again and again."""
    host = "a" * 64 + ".example"
    error = await refused(f"http://{host}/", FetchFailure.UNREACHABLE, "certificate", allowed_hosts=[host])
    assert error.retryable


async def test_a_configured_name_may_lead_to_this_host(server, monkeypatch):
    Names(monkeypatch, "127.0.0.1")
    server.give("/a.crl", b"list")
    assert (await get(server.url("/a.crl", "crl.internal"), configured_hosts=["crl.internal"])).body == b"list"


# Limits


async def test_what_says_that_it_is_too_large_is_not_read(server):
    server.give("/a.crl", bytes(1001))
    error = await refused(server.url("/a.crl"), FetchFailure.TOO_LARGE, max_size=1000)
    assert not error.retryable
    server.give("/a.crl", bytes(1000))
    assert len((await get(server.url("/a.crl"), max_size=1000)).body or b"") == 1000


async def test_what_does_not_say_its_size_is_left_at_the_limit(server):
    server.drip("/endless", bytes(5000), 0.001)
    await refused(server.url("/endless"), FetchFailure.TOO_LARGE)


async def test_gzip_counts_as_what_it_becomes(server):
    server.give("/bomb", gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")
    await refused(server.url("/bomb"), FetchFailure.TOO_LARGE)
    server.give("/fair", gzip.compress(b"list" * 100, mtime=0), Content_Encoding="gzip")
    assert (await get(server.url("/fair"))).body == b"list" * 100


@pytest.mark.parametrize(
    "body",
    [
        b"no gzip",
        gzip.compress(b"list" * 100, mtime=0)[:-4],
        gzip.compress(b"list", mtime=0) + b"more",
        gzip.compress(b"a", mtime=0) * 2,
        b"",
    ],
)
async def test_broken_gzip_is_an_error(server, body):
    server.give("/a.crl", body, Content_Encoding="gzip")
    await refused(server.url("/a.crl"), FetchFailure.PROTOCOL)


async def test_codings_that_were_not_asked_for_are_refused(server):
    server.give("/a.crl", b"x", Content_Encoding="br")
    await refused(server.url("/a.crl"), FetchFailure.PROTOCOL)


async def test_a_slow_answer_ends_at_the_time_limit(server):
    server.drip("/slow", b"x", 0.02)
    error = await refused(server.url("/slow"), FetchFailure.TIMEOUT, timeout=0.3)
    assert error.retryable


async def test_the_time_limit_covers_all_redirects_together(server):
    async def slowly(request: web.Request) -> web.Response:
        await asyncio.sleep(0.2)
        return web.Response(status=302, headers={"Location": request.path + "x"})

    for number in range(6):
        server.answers["/a" + "x" * number] = slowly
    await refused(server.url("/a"), FetchFailure.TIMEOUT, timeout=0.5)


async def test_an_answer_that_is_cut_short_is_an_error():
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        await refused(f"http://127.0.0.1:{port}/", FetchFailure.PROTOCOL)


@pytest.mark.parametrize(
    "answer", [b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b"HTTP/1.1 banana\r\n\r\n"]
)
async def test_what_is_no_http_is_an_error(answer):
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        await refused(f"http://127.0.0.1:{port}/", FetchFailure.PROTOCOL)


# POST


async def test_a_post_carries_its_body_through_redirects_that_keep_it(server):
    server.redirect("/one", "/two", 307)
    server.give("/two", b"answer")
    fetcher = Fetcher(FetchRules.of(**RULES))
    answer = await fetcher.post(server.url("/one"), "configuration", b"question", "application/ocsp-request")
    await fetcher.close()
    assert answer.body == b"answer"
    assert server.asked[1].body == b"question"
    assert server.asked[1].headers["Content-Type"] == "application/ocsp-request"


async def test_a_post_does_not_become_a_get(server):
    server.redirect("/one", "/two", 302)
    fetcher = Fetcher(FetchRules.of(**RULES))
    with pytest.raises(FetchError) as caught:
        await fetcher.post(server.url("/one"), "configuration", b"question", "application/ocsp-request")
    await fetcher.close()
    assert caught.value.failure is FetchFailure.STATUS
    assert server.paths() == ["/one"]


# https


async def test_https_is_verified_with_the_trust_anchors_given_and_no_others():
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlist")
        await writer.drain()
        writer.close()

    pem, other_pem = (ca.cert_pem.bytes().decode() for ca in (authority, other))
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as listener:
        port = listener.sockets[0].getsockname()[1]
        hosts = ["localhost", "127.0.0.1"]
        url = f"https://localhost:{port}/"
        assert (await get(url, configured_hosts=hosts, trust_anchors=pem)).body == b"list"
        await refused(url, FetchFailure.TLS, configured_hosts=hosts, trust_anchors=other_pem)
        await refused(f"https://127.0.0.1:{port}/", FetchFailure.TLS, configured_hosts=hosts, trust_anchors=pem)
        error = await refused(url, FetchFailure.NOT_ALLOWED, configured_hosts=hosts)
        assert "trust_anchors" in error.detail


async def test_https_never_falls_back_to_http(server):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server.give("/a.crl", b"list")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 F\r\nLocation: {server.url('/a.crl')}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as listener:
        port = listener.sockets[0].getsockname()[1]
        hosts = ["localhost", "127.0.0.1"]
        pem = authority.cert_pem.bytes().decode()
        url = f"https://localhost:{port}/"
        await refused(url, FetchFailure.NOT_ALLOWED, configured_hosts=hosts, trust_anchors=pem)
    assert server.asked == []


def test_trust_anchors_that_are_none_are_an_error_at_once():
    with pytest.raises(FetchError):
        Fetcher(FetchRules.of(max_size=1, timeout=1, trust_anchors="no PEM"))
