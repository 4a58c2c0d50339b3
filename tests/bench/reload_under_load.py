"""Requests at the rate that this machine gives, while the proxy's Snapshot is replaced again and again.

    python tests/bench/reload_under_load.py [--reloads 50] [--connections 16] [--entries 20000]

`mtlsproxy run` as a process of its own with a CRL; clients on connections that stay and on ones that come and go; each
replacement is a new CRL in the file's place and a SIGHUP. Exits 1 where a request was lost or refused, where a
replacement did not happen, or where memory grew. How fast and how late requests were is printed, beside the goal.
"""

import argparse
import asyncio
import math
import os
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.certificates import Identity, anchor_file, identity, issue, names
from tests.integration.clients import client_context
from tests.integration.harness import RunningCommand, Tree, running_command
from tests.unit.fetch.lists import list_of
from tests.unit.revocation.build import Authority
from tests.unit.x509.build import Issued

from mtlsproxy.devpki import create_pki
from mtlsproxy.transport.loop import new_event_loop

GOAL = 2000
"""Requests a second."""

WARM = 10
"""Replacements after which memory is measured for the first time."""

GROWTH = 6.0
"""MiB that the proxy and its helper may have grown by since then: what an allocator keeps, not what leaks."""

EVERY = 0.2
"""Seconds between two replacements."""

A_SHORT_CONNECTION = 50
"""Requests on every second client's connections; the others keep theirs to the end."""

HOPELESS = 100
"""Requests lost after which nobody needs to try on."""

REQUEST = b"GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Upstream(asyncio.Protocol):
    """Answers every head with the same two octets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


@dataclass
class Load:
    """What the clients did. late: seconds that each request took; lost: what went wrong instead."""

    port: int
    context: ssl.SSLContext
    late: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    connections: int = 0
    ends: bool = False

    async def client(self, stays: bool) -> None:
        while not self.ends and len(self.lost) < HOPELESS:
            try:
                await self._connection(stays)
            except (OSError, EOFError, asyncio.IncompleteReadError) as error:
                self.lost.append(repr(error))

    async def _connection(self, stays: bool) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, server_hostname="proxy.test"
        )
        self.connections += 1
        try:
            served = 0
            while not self.ends and (stays or served < A_SHORT_CONNECTION):
                began = time.perf_counter()
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"HTTP/1.1 200 "):
                    await reader.readexactly(2)
                    self.late.append(time.perf_counter() - began)
                    served += 1
                else:
                    self.lost.append(head.split(b"\r\n", 1)[0].decode())
                    return
        finally:
            writer.close()


def resident(pid: int) -> float:
    """MiB of a process and its children."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def configuration(folder: Path, anchors: Path, upstream_port: int) -> Tree:
    pki = create_pki(folder / "pki")
    pki.issue("CN=proxy.test", ["DNS:proxy.test"], "server").write(folder / "server.pem", folder / "server.key")
    certificate = {"certificate": "server.pem", "private_key": "server.key"}
    return {
        "version": 1,
        "listeners": [
            {
                "name": "internal",
                "bind": "127.0.0.1:0",
                "tls": {"certificates": [certificate]},
                "client_auth": {"truststores": ["partners"]},
            }
        ],
        "truststores": {
            "partners": {
                "trust_anchors": [str(anchors)],
                "revocation": {"mode": "hard_fail", "crl": {"sources": ["partners.crl"]}},
            }
        },
        "routes": [{"name": "all", "allow": "any", "upstream": "one"}],
        "upstreams": {"one": {"servers": [{"url": f"http://127.0.0.1:{upstream_port}"}]}},
        "logging": {"access": "off"},
        "state_dir": "state",
    }


def publisher(folder: Path, ca: Issued, entries: int) -> Callable[[int], None]:
    """Puts a list of that number in the file's place."""
    by = Authority(ca.key, ca.certificate)

    def publish(number: int) -> None:
        serials = range(10**6 + number, 10**6 + number + entries)
        fresh = folder / "partners.crl.new"
        fresh.write_bytes(list_of(by, *serials, at=datetime.now(UTC), number=number))
        fresh.replace(folder / "partners.crl")

    return publish


def reloads(proxy: RunningCommand) -> float:
    return proxy.series("config_reloads_total").get(("success",), 0)


async def replace_snapshots(proxy: RunningCommand, publish: Callable[[int], None], count: int) -> tuple[float, float]:
    """Memory after WARM replacements and after all of them, in MiB."""
    memory = [resident(proxy.process.pid)] * 2
    for number in range(1, count + 1):
        before = await asyncio.to_thread(reloads, proxy)
        await asyncio.to_thread(publish, number + 1)
        proxy.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(30):
            while await asyncio.to_thread(reloads, proxy) <= before:  # noqa: ASYNC110 - it happens elsewhere
                await asyncio.sleep(0.02)
        await asyncio.sleep(EVERY)
        if number in (WARM, count):
            memory = [memory[1], resident(proxy.process.pid)]
    return memory[0], memory[1]


async def bench(folder: Path, arguments: argparse.Namespace) -> bool:
    ca = issue("Bench CA", ca=True)
    alice: Identity = identity(folder, issue("alice", ca, sans=names("DNS:alice.test")))
    publish = publisher(folder, ca, arguments.entries)
    publish(1)
    loop = asyncio.get_running_loop()
    upstream = await loop.create_server(Upstream, "127.0.0.1", 0)
    config = configuration(folder, anchor_file(folder, ca), upstream.sockets[0].getsockname()[1])
    with running_command(config, folder) as proxy:
        load = Load(proxy.port(), client_context(folder / "pki" / "root.pem", alice))
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(arguments.connections):
                group.create_task(load.client(stays=number % 2 == 0))
            memory = await replace_snapshots(proxy, publish, arguments.reloads)
            load.ends = True
        seconds = time.perf_counter() - began
        counted = sum(proxy.series("requests_total").values())
        refused = proxy.series("rejections_total")
    upstream.close()
    return report(load, seconds, memory, arguments.reloads, counted, refused)


def report(
    load: Load,
    seconds: float,
    memory: tuple[float, float],
    count: int,
    counted: float,
    refused: dict[tuple[str, ...], float],
) -> bool:
    """Print what was measured; whether nothing that must hold was broken."""
    late = sorted(load.late) or [math.nan]
    grown = memory[1] - memory[0]
    rate = len(late) / seconds
    print(f"{len(late):,} requests in {seconds:.1f} s on {load.connections} connections, {count} replacements")
    print(f"  rate     {rate:8.0f} /s{'' if rate >= GOAL else f' (!) goal {GOAL}'}")
    print(f"  latency  p50 {_at(late, 0.5):.1f} ms  p99 {_at(late, 0.99):.1f} ms  max {late[-1] * 1000:.1f} ms")
    print(f"  memory   {memory[0]:.1f} MiB after {WARM}, {memory[1]:.1f} MiB at the end: {grown:+.1f} MiB")
    print(f"  lost     {len(load.lost)} {load.lost[:3] if load.lost else ''}, refused {sum(refused.values()):.0f}")
    print(f"  counted  {counted:.0f} by the proxy, {len(late)} by its clients")
    # A client that is stopped leaves no request behind, so both must have counted the same.
    return not load.lost and not refused and grown < GROWTH and counted == len(late)


def _at(ordered: list[float], share: float) -> float:
    """Milliseconds."""
    return ordered[int(len(ordered) * share)] * 1000


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--entries", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return 0 if await bench(Path(folder), arguments) else 1


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop()) as runner:
        sys.exit(runner.run(main()))
