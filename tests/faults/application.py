"""Upstreams that run as processes of their own, so that tests can end, stop and revive them.

`python application.py KIND WHERE [CERTIFICATE KEY ANCHORS]`. KIND: aiohttp, http.server, or websockets, which echoes
messages. WHERE: a port of 127.0.0.1, or the path of a unix socket (aiohttp alone). With files it speaks TLS and
verifies its clients.

    /wait      takes the request and never answers
    /begin     announces a million bytes, sends five of them, and no more
    …/bytes/N  N bytes that follow from the path, after `sized` with their length, after `slowly` taking their time
               (aiohttp alone)
    others     the method, the path with its query, how many bytes of a body came and their SHA-256, in one line
"""

import asyncio
import hashlib
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiohttp import web
from websockets.sync.server import ServerConnection, serve

BEGUN = b"begun"
ANNOUNCED = 1_000_000

NOTHING = hashlib.sha256().hexdigest()


def line(method: str, path: str, size: int, digest: str) -> str:
    """What an answer says of its request."""
    return f"{method} {path} {size} {digest}"


def bytes_of(path: str) -> bytes:
    """What `…/bytes/N` is answered."""
    size = int(path.rpartition("/")[2])
    block = hashlib.sha512(path.encode()).digest()
    return (block * (size // len(block) + 1))[:size]


# -- aiohttp ---------------------------------------------------------------------------------------------------------


async def wait(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def begin(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": str(ANNOUNCED)})
    await answer.prepare(request)
    await answer.write(BEGUN)
    return await wait(request)


async def tell(request: web.Request) -> web.StreamResponse:
    digest, size = hashlib.sha256(), 0
    async for piece in request.content.iter_any():
        digest.update(piece)
        size += len(piece)
    return web.Response(text=line(request.method, request.path_qs, size, digest.hexdigest()))


async def load(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    body = bytes_of(request.path)
    if request.match_info["head"].endswith("sized"):
        answer.content_length = len(body)
    else:
        answer.enable_chunked_encoding()
    await answer.prepare(request)
    for at in range(0, len(body), 65536):
        await answer.write(body[at : at + 65536])
        if "slowly" in request.match_info["head"]:
            await asyncio.sleep(0.02)
    await answer.write_eof()
    return answer


def run_aiohttp(where: str, context: ssl.SSLContext | None) -> None:
    application = web.Application()
    application.router.add_route("*", "/wait", wait)
    application.router.add_route("*", "/begin", begin)
    application.router.add_get("/{head:.*}/bytes/{size}", load)
    application.router.add_route("*", "/{path:.*}", tell)
    place: dict[str, Any] = {"host": "127.0.0.1", "port": int(where)} if where.isdigit() else {"path": where}
    web.run_app(application, ssl_context=context, access_log=None, print=None, **place)


# -- http.server -----------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        if "Transfer-Encoding" not in self.headers:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        out = b""
        while size := int(self.rfile.readline(), 16):
            out += self.rfile.read(size + 2)[:-2]
        self.rfile.readline()
        return out

    def answer(self) -> None:
        body = self.body()
        if self.path == "/wait":
            threading.Event().wait()
        said = line(self.command, self.path, len(body), hashlib.sha256(body).hexdigest()).encode()
        begins = self.path == "/begin"
        self.send_response(200)
        self.send_header("Content-Length", str(ANNOUNCED if begins else len(said)))
        self.end_headers()
        self.wfile.write(BEGUN if begins else said)
        if begins:
            threading.Event().wait()

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_: Any) -> None:
        pass


def run_http_server(where: str, context: ssl.SSLContext | None) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", int(where)), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


# -- websockets ------------------------------------------------------------------------------------------------------


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


def run_websockets(where: str, context: ssl.SSLContext | None) -> None:
    with serve(echo, "127.0.0.1", int(where), ssl=context) as server:
        server.serve_forever()


def main() -> None:
    kind, where, *files = sys.argv[1:]
    context = None
    if files:
        certificate, key, anchors = files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(anchors)
    run = {"aiohttp": run_aiohttp, "http.server": run_http_server, "websockets": run_websockets}
    run[kind](where, context)


if __name__ == "__main__":
    main()
