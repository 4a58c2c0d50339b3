"""What stands on either side of the proxy: an upstream that a test plays by hand, clients of other makes."""

import asyncio
import contextlib
import hashlib
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.certificates import Identity
from tests.integration.clients import PATIENCE, Bytes, Connection
from tests.integration.harness import eventually, free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer(Bytes):
    """The upstream's end of one connection."""

    def head(self) -> bytes:
        """The next request's head."""
        return self.until(b"\r\n\r\n")

    def answer(self, data: bytes = OK) -> bytes:
        """Read a request's head and answer it; the head."""
        head = self.head()
        self.send(data)
        return head

    def finish(self) -> None:
        """No more bytes from here (FIN), unless the proxy has ended the connection already."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End with RST."""
        reset(self.sock)

    def rest(self) -> bytes:
        """All there is until the proxy ends the connection, in whatever way."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                self._more()
        out, self._buffer = self._buffer, b""
        return out


@contextlib.contextmanager
def full_port() -> Iterator[int]:
    """A port where nobody takes a connection, and nobody refuses it: its backlog is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def swallow(connection: Peer | Connection, size: int) -> str:
    """Read `size` bytes without keeping them; their SHA-256."""
    digest = hashlib.sha256()
    taken, connection._buffer = connection._buffer[:size], connection._buffer[size:]
    digest.update(taken)
    left = size - len(taken)
    while left:
        data = connection.sock.recv(min(left, 262144))
        assert data, f"{left} of {size} bytes are missing"
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()


class Listening:
    """A listening socket; a test accepts from it when it likes."""

    def __init__(self, sock: socket.socket, stack: contextlib.ExitStack) -> None:
        self._sock = sock
        self._stack = stack
        self.port: int = sock.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def accept(self) -> Peer:
        self._sock.settimeout(PATIENCE)
        sock = self._stack.enter_context(self._sock.accept()[0])
        sock.settimeout(PATIENCE)
        return Peer(sock)

    def nobody_else(self, seconds: float = 0.1) -> bool:
        """Whether no further connection comes."""
        self._sock.settimeout(seconds)
        try:
            self._stack.enter_context(self._sock.accept()[0])
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._sock.close()


@contextlib.contextmanager
def listening(receive_buffer: int | None = None) -> Iterator[Listening]:
    """receive_buffer: bytes that the kernel takes before the upstream reads (inherited by what is accepted)."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        yield Listening(sock, stack)


def reset(sock: socket.socket) -> None:
    """End with RST: what is on its way is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def curl(port: int, root: Path, who: Identity, path: str, *options: str, stdin: bytes = b"") -> bytes:
    """What curl prints. It must succeed."""
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", "--fail-with-body", "--http1.1", "--max-time", "30",
        "--cacert", str(root), "--cert", str(who.certificate), "--key", str(who.key),
        "--resolve", f"proxy.test:{port}:127.0.0.1", *options, f"https://proxy.test:{port}{path}",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate(stdin)
    assert process.returncode == 0, errors.decode()
    return out


def settled(look: Callable[[], int]) -> int:
    """What `look` says once it is positive and has not changed for a while."""

    def steady() -> int:
        before = look()
        time.sleep(0.2)
        return before if before == look() else 0

    return eventually(steady, 30)


@contextlib.contextmanager
def nginx(folder: Path, settings: str = "") -> Iterator[tuple[str, Path]]:
    """nginx serving files on a free port: its URL and the files' folder."""
    port, files = free_port(), folder / "files"
    files.mkdir()
    files.chmod(0o755)
    paths = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;"
        f"events {{}} http {{ access_log off; {paths} {settings}"
        f"server {{ listen 127.0.0.1:{port}; root {files}; }} }}"
    )
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(configuration)], stderr=subprocess.DEVNULL)

    def listens() -> bool:
        assert process.poll() is None, (folder / "nginx.log").read_text()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(listens)
        yield f"http://127.0.0.1:{port}", files
    finally:
        process.terminate()
        process.wait(PATIENCE)
