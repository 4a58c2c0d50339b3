"""What several workers cost and bring: memory with a million-entry CRL, requests a second, a flood of refusals.

    python tests/bench/crew.py [--workers 2] [--entries 1000000] [--seconds 10] [--rate 1000]

`mtlsproxy run` as processes of its own; load is made by other processes of this machine, which share its cores.
- memory: PSS (what is shared is counted in parts) of the processes with a small and with the large list.
- speed: full handshakes and keep-alive requests a second, with one worker and with several; CPU time beside it.
- refusals: handshakes without a certificate at a rate; how long page, metrics and API take meanwhile, and memory.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.crl_million import make_list
from tests.bench.reload_under_load import Upstream, configuration
from tests.integration.certificates import anchor_file, identity, issue, names
from tests.integration.clients import client_context
from tests.integration.harness import RunningCommand, Tree, running_command
from tests.unit.revocation.build import Authority

from mtlsproxy.transport.loop import new_event_loop

GET = b"GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
GOAL_MEMORY, GOAL_SPEED = 40.0, 1.8
ASKED = ("/", "/metrics", "/api/status", "/api/rejections")


def processes(pid: int) -> list[int]:
    """The command, its workers and its helper."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def memory(pid: int, kind: str) -> float:
    """MiB of one process: `Pss` or `Rss`."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition(f"{kind}:")[2].split()[0]) / 1024


def processor(pids: list[int]) -> float:
    fields = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def proxy(config: Tree, folder: Path, workers: int) -> Iterator[RunningCommand]:
    with running_command(config | {"workers": workers}, folder) as running:
        yield running


# -- memory ------------------------------------------------------------------------------------------------------------


def measure_memory(config: Tree, folder: Path, by: Authority, arguments: argparse.Namespace) -> None:
    found = {}
    for name, count in (("small list", 1), ("large list", arguments.entries)):
        serials = [secrets.randbits(127) | 1 << 120 for _ in range(count)]
        (folder / "partners.crl").write_bytes(make_list(by, serials, 1))
        for workers in (1, arguments.workers):
            began = time.perf_counter()
            with proxy(config, folder, workers) as running:
                started = time.perf_counter() - began
                pids = processes(running.process.pid)
                found[name, workers] = [memory(pid, "Rss") for pid in pids], [memory(pid, "Pss") for pid in pids]
            rss, pss = ([f"{each:.0f}" for each in kind] for kind in found[name, workers])
            print(f"memory: {name}, {workers} workers: RSS {rss}, PSS {pss} MiB; ready after {started:.1f} s")
    for workers in (1, arguments.workers):
        small, large = (max(found[name, workers][0]) for name in ("small list", "large list"))
        print(f"  {workers} workers: {large - small:+.1f} MiB RSS for the list (goal {GOAL_MEMORY:g})")
    (folder / "partners.crl").write_bytes(make_list(by, [1], 1))


# -- speed -------------------------------------------------------------------------------------------------------------


async def ask(port: int, context: ssl.SSLContext, seconds: float, kept: bool) -> int:
    """Requests answered in that time, by eight clients."""
    ends = time.monotonic() + seconds
    answered = 0

    async def client() -> None:
        nonlocal answered
        while time.monotonic() < ends:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="proxy.test")
            while True:
                writer.write(GET)
                await reader.readuntil(b"\r\n\r\nok")
                answered += 1
                if not kept or time.monotonic() >= ends:
                    break
            writer.transport.abort()

    await asyncio.gather(*(client() for _ in range(8)))
    return answered


def loaded(port: int, folder: Path, seconds: float, kept: bool, clients: int) -> float:
    """Requests a second, of several client processes."""
    command = [sys.executable, __file__, "--ask", str(port), "--folder", str(folder), "--seconds", str(seconds)]
    asking = [
        subprocess.Popen([*command, *(["--kept"] if kept else [])], stdout=subprocess.PIPE) for _ in range(clients)
    ]
    return sum(int(one.communicate()[0]) for one in asking) / seconds


def measure_speed(config: Tree, folder: Path, arguments: argparse.Namespace) -> None:
    for name, kept in (("full handshakes", False), ("kept connections", True)):
        rates = {}
        for workers in (1, arguments.workers):
            with proxy(config, folder, workers) as running:
                pids = processes(running.process.pid)
                before = processor(pids)
                rates[workers] = loaded(running.port(), folder, arguments.seconds, kept, 2)
                cpu = (processor(pids) - before) / arguments.seconds
            print(f"speed: {name}, {workers} workers: {rates[workers]:.0f} a second at {cpu:.2f} cores, "
                  f"{rates[workers] / cpu:.0f} a second and core")  # fmt: skip
        print(f"  {rates[arguments.workers] / rates[1]:.2f} times one worker (goal {GOAL_SPEED}, where cores allow)")


# -- refusals ----------------------------------------------------------------------------------------------------------


async def flood(port: int, folder: Path, seconds: float, rate: float) -> int:
    """Handshakes without a certificate, `rate` a second at most; how many there were."""
    context = client_context(folder / "pki" / "root.pem")
    ends, count = time.monotonic() + seconds, 0
    began = time.monotonic()

    async def client() -> None:
        nonlocal count
        while (now := time.monotonic()) < ends:
            if count > (now - began) * rate:
                await asyncio.sleep(0.005)
                continue
            count += 1
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=context, server_hostname="proxy.test"
                )
                await reader.read(1)
                writer.transport.abort()

    await asyncio.gather(*(client() for _ in range(32)))
    return count


def measure_refusals(config: Tree, folder: Path, arguments: argparse.Namespace) -> None:
    with proxy(config, folder, arguments.workers) as running:
        pids = processes(running.process.pid)
        before, rested = sum(memory(pid, "Pss") for pid in pids), look(running)
        command = [sys.executable, __file__, "--flood", str(running.port()), "--folder", str(folder)]
        command += ["--seconds", str(arguments.seconds), "--rate", str(arguments.rate / 2)]
        flooding = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        slowest: dict[str, list[float]] = {path: [] for path in ASKED}
        sizes = []
        while any(one.poll() is None for one in flooding):
            for path, seconds in look(running).items():
                slowest[path].append(seconds)
            sizes.append(sum(memory(pid, "Pss") for pid in pids))
            time.sleep(0.2)
        refused = sum(running.series("rejections_total").values()) / arguments.seconds
    print(f"refusals: {refused:.0f} a second with {arguments.workers} workers; memory {before:.0f} MiB, then "
          f"{sizes[0]:.0f} to {sizes[-1]:.0f} (at most {max(sizes):.0f})")  # fmt: skip
    for path, times in slowest.items():
        middle = sorted(times)[len(times) // 2]
        print(f"  {path:16} quiet {rested[path] * 1000:6.0f} ms, then p50 {middle * 1000:6.0f}, "
              f"slowest {max(times) * 1000:6.0f}")  # fmt: skip


def look(running: RunningCommand) -> dict[str, float]:
    """Seconds that each page takes."""
    found = {}
    for path in ASKED:
        began = time.perf_counter()
        running.admin(path)
        found[path] = time.perf_counter() - began
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=1000)
    for hidden, kind in (("--ask", int), ("--flood", int), ("--folder", Path)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop()) as runner:
        if arguments.ask:
            context = client_context(arguments.folder / "pki" / "root.pem")
            context.load_cert_chain(arguments.folder / "alice.pem", arguments.folder / "alice.key")
            print(runner.run(ask(arguments.ask, context, arguments.seconds, arguments.kept)))
            return
        if arguments.flood:
            print(runner.run(flood(arguments.flood, arguments.folder, arguments.seconds, arguments.rate)))
            return
    with tempfile.TemporaryDirectory() as name:
        bench(Path(name), arguments)


def bench(folder: Path, arguments: argparse.Namespace) -> None:
    ca = issue("Bench CA", ca=True)
    alice = identity(folder, issue("alice", ca, sans=names("DNS:alice.test")))
    (folder / "alice.pem").write_bytes(alice.certificate.read_bytes())
    (folder / "alice.key").write_bytes(alice.key.read_bytes())
    serve = [sys.executable, "-c", _SERVE, str(Path(__file__).parents[2])]
    with subprocess.Popen(serve, stdout=subprocess.PIPE) as upstream:
        assert upstream.stdout is not None
        config = configuration(folder, anchor_file(folder, ca), int(upstream.stdout.readline()))
        try:
            measure_memory(config, folder, Authority(ca.key, ca.certificate), arguments)
            measure_speed(config, folder, arguments)
            measure_refusals(config, folder, arguments)
        finally:
            upstream.kill()


_SERVE = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from tests.bench.crew import serve
serve()
"""


def serve() -> None:
    """An upstream in a process of its own; says its port."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    with asyncio.Runner(loop_factory=new_event_loop()) as runner:
        runner.run(run())


if __name__ == "__main__":
    main()
