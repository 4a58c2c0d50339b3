"""How late others are served, and what it costs, while somebody means ill.

    python tests/bench/under_attack.py [--seconds 5] [--crowd 10000] [--attacks idle,silent,…] [--near]

`mtlsproxy run` as a process of its own, its defaults in force; attackers are another process. Beside each attack two
honest clients are measured: one on connections that stay, one that connects anew each time, both from other addresses
than the attackers' (with --near from theirs). Exits 1 where somebody honest was refused or lost; how late they were is
printed beside the goal.
"""

import argparse
import asyncio
import contextlib
import itertools
import math
import os
import resource
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.certificates import anchor_file, identity, issue, names
from tests.integration.clients import client_context
from tests.integration.harness import RunningCommand, Tree, running_command
from tests.integration.stepped import client_hello

from mtlsproxy.devpki import create_pki
from mtlsproxy.transport.loop import new_event_loop

GOAL = 10.0
"""Times its quiet value: what others' p99 may be under attack."""

NEAR, FAR, FARTHER = "127.0.1.1", "127.0.0.2", "127.0.0.3"

_addresses = itertools.cycle(f"127.0.1.{number}" for number in range(1, 9))
"""The attackers'."""

SERVER_NAME = "proxy.test"
GET = b"GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
GET_LARGE = b"GET /large HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 1000000\r\n\r\n"
LARGE = 16 * 1024 * 1024

AT_ONCE = 64
"""Connections that an attacker makes at a time."""


class Upstream(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /large"):
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + bytes(LARGE))
        else:
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * data.count(b"\r\n\r\n"))


# -- honest clients ----------------------------------------------------------------------------------------------------


@dataclass
class Honest:
    port: int
    context: ssl.SSLContext
    near: bool
    kept: list[float] = field(default_factory=list)
    """Seconds of each request on a connection that stays."""
    fresh: list[float] = field(default_factory=list)
    """The same with a connection, a handshake and a request."""
    lost: list[str] = field(default_factory=list)
    ends: bool = False

    async def stay(self) -> None:
        with self._noted():
            reader, writer = await self._connect(FAR)
            while not self.ends:
                self.kept.append(await self._ask(reader, writer))
                await asyncio.sleep(0.01)
            writer.close()

    async def come_and_go(self) -> None:
        while not self.ends:
            with self._noted():
                began = time.perf_counter()
                async with asyncio.timeout(20):
                    reader, writer = await self._connect(FARTHER)
                    await self._ask(reader, writer)
                self.fresh.append(time.perf_counter() - began)
                writer.close()
            await asyncio.sleep(0.02)

    @contextlib.contextmanager
    def _noted(self):  # type: ignore[no-untyped-def]
        try:
            yield
        except (OSError, EOFError) as error:
            self.lost.append(repr(error))

    async def _connect(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, server_hostname=SERVER_NAME, ssl_handshake_timeout=20,
            local_addr=(NEAR if self.near else address, 0),
        )  # fmt: skip

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
        began = time.perf_counter()
        writer.write(GET)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            self.lost.append(head.split(b"\r\n", 1)[0].decode())
        await reader.readexactly(2)
        return time.perf_counter() - began


# -- attackers, in a process of their own ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attacker:
    port: int
    context: ssl.SSLContext
    stranger: ssl.SSLContext
    hello: bytes

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(next(_addresses), 0))
        # Ended with RST, and from several addresses: else there are not ports enough to come again and again.
        sock = cast(socket.socket, writer.get_extra_info("socket"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return reader, writer

    async def inside(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, server_hostname=SERVER_NAME, limit=1024,
            local_addr=(next(_addresses), 0), ssl_handshake_timeout=60,
        )  # fmt: skip

    async def idle(self, there: Callable[[], None]) -> None:
        """Shakes hands, and asks for nothing."""
        _, writer = await self.inside()
        there()
        await asyncio.sleep(math.inf)
        writer.close()

    async def silent(self, there: Callable[[], None], says: int | None = None) -> None:
        """A ClientHello and nothing more; comes again as soon as it is let go."""
        while True:
            try:
                reader, writer = await self.raw()
                writer.write(self.hello[:says])
                there()
                while await reader.read(65536):
                    pass
                writer.close()
            except OSError:
                await asyncio.sleep(0.1)

    async def half(self, there: Callable[[], None]) -> None:
        """Half a ClientHello."""
        await self.silent(there, says=100)

    async def headers(self, there: Callable[[], None]) -> None:
        """A byte a second of a request's head."""
        await self._drip(there, b"", GET[:-4] + b"\r\nX: " + b"a" * 1000)

    async def bodies(self, there: Callable[[], None]) -> None:
        """The same of a body."""
        await self._drip(there, POST, b"a" * 1000)

    async def _drip(self, there: Callable[[], None], first: bytes, then: bytes) -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await self.inside()
                writer.write(first)
                there()
                for at in range(len(then)):
                    writer.write(then[at : at + 1])
                    await asyncio.sleep(1)
                    if writer.is_closing():
                        break

    async def readers(self, there: Callable[[], None]) -> None:
        """Asks for much, and reads nothing."""
        reader, writer = await self.inside()
        writer.write(GET_LARGE)
        await reader.read(1)
        there()
        await asyncio.sleep(math.inf)

    async def flood(self, there: Callable[[], None]) -> None:
        """Handshakes without a certificate, one after the other."""
        there()
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1",
                    self.port,
                    ssl=self.stranger,
                    server_hostname=SERVER_NAME,
                    local_addr=(next(_addresses), 0),
                )
                await reader.read(1)
                writer.close()


ATTACKS: dict[str, tuple[Callable[[Attacker, Callable[[], None]], Awaitable[None]], float]] = {
    "idle": (Attacker.idle, 0.95),
    "silent": (Attacker.silent, 0.9),
    "half": (Attacker.half, 0.9),
    "headers": (Attacker.headers, 0.1),
    "bodies": (Attacker.bodies, 0.03),
    "readers": (Attacker.readers, 0.01),
    "flood": (Attacker.flood, 0.0032),
}
"""What each attacker does, and how many there are for one of --crowd."""


async def attack(name: str, port: int, folder: Path, count: int) -> None:
    """Says `there` once everybody has come; ends when it is killed."""
    root = folder / "pki" / "root.pem"
    context = client_context(root)
    context.load_cert_chain(folder / "mallory.pem", folder / "mallory.key")
    stranger = client_context(root)
    attacker = Attacker(port, context, stranger, client_hello(stranger))
    left, slots = count, asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        await slots.acquire()
        came = False

        def there() -> None:
            nonlocal left, came
            if not came:
                came = True
                slots.release()
                left -= 1
                if left == 0:
                    print("there", flush=True)

        await ATTACKS[name][0](attacker, there)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())


# -- the bench ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    kept: list[float]
    fresh: list[float]
    lost: list[str]
    cpu: float
    """Seconds of the processor for a second."""
    memory: float
    """MiB."""

    def at(self, which: str, share: float) -> float:
        """Milliseconds."""
        late = sorted(getattr(self, which)) or [math.nan]
        return late[int(len(late) * share)] * 1000


async def measure(proxy: RunningCommand, context: ssl.SSLContext, seconds: float, near: bool) -> Measured:
    honest = Honest(proxy.port(), context, near)
    cpu, began = processor(proxy.process.pid), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(honest.stay())
        group.create_task(honest.come_and_go())
        await asyncio.sleep(seconds)
        honest.ends = True
    cpu = (processor(proxy.process.pid) - cpu) / (time.perf_counter() - began)
    return Measured(honest.kept, honest.fresh, honest.lost, cpu, resident(proxy.process.pid))


def processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def configuration(folder: Path, anchors: Path, upstream_port: int) -> Tree:
    pki = create_pki(folder / "pki")
    pki.issue("CN=proxy.test", ["DNS:proxy.test"], "server").write(folder / "server.pem", folder / "server.key")
    return {
        "version": 1,
        "listeners": [
            {
                "name": "internal",
                "bind": "127.0.0.1:0",
                "tls": {"certificates": [{"certificate": "server.pem", "private_key": "server.key"}]},
                "client_auth": {"truststores": ["partners"]},
            }
        ],
        "truststores": {"partners": {"trust_anchors": [str(anchors)], "revocation": {"mode": "off"}}},
        "routes": [{"name": "all", "allow": "any", "upstream": "one"}],
        "upstreams": {"one": {"servers": [{"url": f"http://127.0.0.1:{upstream_port}"}]}},
        "logging": {"access": "off"},
        "state_dir": "state",
        "shutdown": {"drain": "100ms"},
    }


@contextlib.asynccontextmanager
async def attacked(name: str, port: int, folder: Path, count: int):  # type: ignore[no-untyped-def]
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--attack", name, "--port", str(port), "--folder", str(folder),
        "--crowd", str(count), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(120):
            assert await process.stdout.readline() == b"there\n"
        yield
    finally:
        process.kill()
        await process.wait()


async def bench(folder: Path, arguments: argparse.Namespace) -> bool:
    ca = issue("Bench CA", ca=True)
    alice = identity(folder, issue("alice", ca, sans=names("DNS:alice.test")))
    mallory = identity(folder, issue("mallory", ca, sans=names("DNS:mallory.test")))
    (folder / "mallory.pem").write_bytes(mallory.certificate.read_bytes())
    (folder / "mallory.key").write_bytes(mallory.key.read_bytes())
    upstream = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    config = configuration(folder, anchor_file(folder, ca), upstream.sockets[0].getsockname()[1])
    fine = True
    print(f"{'':10} {'clients':>8} {'kept p50':>9} {'p99':>8} {'':7} {'fresh p50':>9} {'p99':>8} {'':7}", end="")
    print(f" {'cpu':>5} {'MiB':>6} {'KiB each':>9}  lost")
    for name in arguments.attacks.split(","):
        count = max(int(arguments.crowd * ATTACKS[name][1]), 1)
        with running_command(config, folder) as proxy:
            context = client_context(folder / "pki" / "root.pem", alice)
            await measure(proxy, context, 1, arguments.near)
            quiet = await measure(proxy, context, arguments.seconds, arguments.near)
            async with attacked(name, proxy.port(), folder, count):
                busy = await measure(proxy, context, arguments.seconds, arguments.near)
        show("quiet", 0, quiet, quiet)
        show(name, count, busy, quiet)
        fine = fine and not quiet.lost and not busy.lost
    upstream.close()
    return fine


def show(name: str, count: int, measured: Measured, quiet: Measured) -> None:
    print(f"{name:10} {count:8,}", end="")
    for which in ("kept", "fresh"):
        times = measured.at(which, 0.99) / quiet.at(which, 0.99)
        mark = "" if measured is quiet else f"x{times:.1f}{'' if times < GOAL else '(!)'}"
        print(f" {measured.at(which, 0.5):9.2f} {measured.at(which, 0.99):8.2f} {mark:7}", end="")
    each = f"{(measured.memory - quiet.memory) * 1024 / count:9.1f}" if count else " " * 9
    print(f" {measured.cpu:5.2f} {measured.memory:6.0f} {each}  {len(measured.lost)} {measured.lost[:2] or ''}")


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--crowd", type=int, default=10_000)
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--near", action="store_true")
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if arguments.attack:
        await attack(arguments.attack, arguments.port, arguments.folder, arguments.crowd)
    with tempfile.TemporaryDirectory() as folder:
        return 0 if await bench(Path(folder), arguments) else 1


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop()) as runner:
        sys.exit(runner.run(main()))
