"""20 MiB each way arrive with the same SHA-256: curl and aiohttp, TLS 1.2 and 1.3, by length and in chunks; nginx."""

import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.integration.certificates import Identity
from tests.integration.clients import VERSIONS, client_context
from tests.integration.conftest import Material
from tests.integration.harness import Tree
from tests.integration.http.conftest import Serve, Served
from tests.integration.http.peers import curl, nginx

SIZE = 20 * 1024 * 1024
CONTENT = hashlib.sha256(b"seed").digest() * (SIZE // 32)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


async def upload(request: web.Request) -> web.Response:
    """What came, as its digest; and how it was framed."""
    digest = hashlib.sha256()
    async for piece in request.content.iter_chunked(1 << 20):
        digest.update(piece)
    return web.Response(text=f"{digest.hexdigest()} {'length' if request.content_length is not None else 'chunked'}")


async def download(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    if request.query_string == "length":
        answer.content_length = SIZE
    else:
        answer.enable_chunked_encoding()
    await answer.prepare(request)
    for at in range(0, SIZE, 100_000):
        await answer.write(CONTENT[at : at + 100_000])
    return answer


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """An aiohttp server that digests uploads and serves downloads."""
    application = web.Application()
    application.router.add_put("/up", upload)
    application.router.add_get("/down", download)
    runner = web.AppRunner(application)
    await runner.setup()
    tcp = web.TCPSite(runner, "127.0.0.1", 0)
    await tcp.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def to_site(config: Tree, site: str, serve: Serve) -> Served:
    config["upstreams"]["recorder"]["servers"] = [{"url": site}]
    return serve()


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_aiohttp(to_site: Served, material: Material, alice: Identity, version: str, framing: str) -> None:
    context = client_context(material.root, alice, VERSIONS[version])
    url = f"https://localhost:{to_site.port}"

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, SIZE, 1 << 20):
            yield CONTENT[at : at + (1 << 20)]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        body = io.BytesIO(CONTENT) if framing == "length" else pieces()
        async with session.put(f"{url}/up", data=body) as answer:
            assert await answer.text() == f"{DIGEST} {framing}"
        async with session.get(f"{url}/down?{framing}") as answer:
            assert (answer.content_length is not None) is (framing == "length")
            assert hashlib.sha256(await answer.read()).hexdigest() == DIGEST


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_curl(
    to_site: Served, material: Material, alice: Identity, tmp_path: Path, version: str, framing: str
) -> None:
    number = version.removeprefix("TLSv")
    way = [f"--tlsv{number}", "--tls-max", number]
    file, stdin = tmp_path / "content", b""
    if framing == "length":
        file.write_bytes(CONTENT)
    else:
        stdin = CONTENT
    source = str(file) if framing == "length" else "-"  # curl sends what has no known size in chunks
    said = await curl(to_site.port, material.root, alice, "/up", *way, "--upload-file", source, stdin=stdin)
    assert said.decode() == f"{DIGEST} {framing}"
    assert (
        hashlib.sha256(await curl(to_site.port, material.root, alice, f"/down?{framing}", *way)).hexdigest() == DIGEST
    )


@pytest.mark.parametrize("kept", [True, False], ids=["keep-alive", "closing"])
async def test_nginx_as_upstream(
    config: Tree, serve: Serve, material: Material, alice: Identity, tmp_path: Path, kept: bool
) -> None:
    """Files, ranges, conditions, HEAD and errors of a server that others wrote."""
    with nginx(tmp_path, f"keepalive_timeout {5 if kept else 0};") as (url, files):
        (files / "content").write_bytes(CONTENT)
        config["upstreams"]["recorder"]["servers"] = [{"url": url}]
        served = serve()
        got = await curl(served.port, material.root, alice, "/content")
        assert hashlib.sha256(got).hexdigest() == DIGEST
        with served.connect() as client:
            answer = client.get("/content", "Range: bytes=32-63")
            assert (answer.status, answer.body) == (206, CONTENT[32:64])
            tag = answer.one("ETag")
            assert client.get("/content", f"If-None-Match: {tag}").status == 304
            assert client.get("/missing").status == 404
            client.send(b"HEAD /content HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
            assert client.response(to_head=True).one("Content-Length") == str(SIZE)
            assert client.get("/content", "Range: bytes=0-0").body == CONTENT[:1]
