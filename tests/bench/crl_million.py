"""What a large CRL costs the proxy: time to load, the longest stall of its event loop meanwhile, a look-up, its memory.

    python tests/bench/crl_million.py [--entries 1000000]

Two lists: a million entries, and one of 4.6 MB (the size that envoy #32187 reports as +199 MiB). The loop runs a ticker
every millisecond while the list is loaded by the helper process, from a file and from a URL on 127.0.0.1.
"""

import argparse
import asyncio
import gc
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.unit.revocation.build import Authority, assemble, authority, crl_number, integer, tlv
from tests.unit.revocation.build import time as der_time

from mtlsproxy.fetch.client import CrlEvent, FetchClient
from mtlsproxy.fetch.messages import CrlUrl
from mtlsproxy.fetch.rules import FetchRules
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.crlset import CrlSet
from mtlsproxy.transport.loop import new_event_loop

TICK = 0.001
LOOKUPS = 200_000
GOALS = {"load": 5.0, "stall": 0.050, "miss": 2e-6, "hit": 2e-6, "rss": 40.0}


@dataclass
class Measured:
    """load: seconds. stall: the longest wait beyond a tick, seconds. miss, hit: seconds a look-up. rss: MiB added."""

    load: float
    stall: float
    miss: float
    hit: float
    rss: float

    def line(self) -> str:
        values = {
            "load": f"{self.load:6.2f} s",
            "stall": f"{self.stall * 1000:6.1f} ms",
            "miss": f"{self.miss * 1e6:5.2f} µs",
            "hit": f"{self.hit * 1e6:5.2f} µs",
            "rss": f"{self.rss:6.1f} MiB",
        }
        return "  ".join(f"{n} {v}{' (!)' if getattr(self, n) > GOALS.get(n, 1.0) else ''}" for n, v in values.items())


class Ticker:
    """The longest time between two ticks while it runs."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._loop = asyncio.get_running_loop()
        self._last = time.perf_counter()
        self._handle = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.worst = max(self.worst, now - self._last - TICK)
        self._last = now
        self._handle = self._loop.call_later(TICK, self._tick)

    def stop(self) -> float:
        self._handle.cancel()
        return self.worst


def make_list(issuer: Authority, serials: list[int], number: int) -> bytes:
    now = datetime.now(UTC)
    date = der_time(now - timedelta(days=1))
    entries = b"".join([tlv(0x30, integer(serial), date) for serial in serials])
    return assemble(
        issuer,
        entries,
        this_update=now - timedelta(hours=1),
        next_update=now + timedelta(days=1),
        extensions=(crl_number(number),),
    )


def resident() -> float:
    """MiB of this process."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def per_lookup(crl: Crl, serials: list[int]) -> float:
    serials = (serials * (LOOKUPS // len(serials) + 1))[:LOOKUPS]
    lookup = crl.lookup
    began = time.perf_counter()
    for serial in serials:
        lookup(serial)
    spent = time.perf_counter() - began
    began = time.perf_counter()
    for _ in serials:
        pass
    return (spent - (time.perf_counter() - began)) / LOOKUPS


async def measure(loading: Awaitable[tuple[Crl, ...]], issuer: Authority, known: list[int]) -> Measured:
    gc.collect()
    before = resident()
    ticker = Ticker()
    began = time.perf_counter()
    crls = await loading
    found, problems = CrlSet.build(crls, [issuer.certificate])
    assert not problems and found.signed_by(issuer.certificate).lists, problems
    load = time.perf_counter() - began
    await asyncio.sleep(0.05)
    stall = ticker.stop()
    (crl,) = crls
    sample = known[:: max(1, len(known) // 10_000)]
    assert all(crl.lookup(serial) for serial in sample)
    absent = [secrets.randbits(127) for _ in range(10_000)]
    hit, miss = per_lookup(crl, sample), per_lookup(crl, absent)
    return Measured(load, stall, miss, hit, resident() - before)


async def from_file(client: FetchClient, path: Path) -> tuple[Crl, ...]:
    return (await client.load_files([path])).crls


async def from_url(client: FetchClient, url: str, issuer: Authority) -> tuple[Crl, ...]:
    rules = FetchRules.of(configured_hosts=["127.0.0.1"], max_size=256 * 1024 * 1024, timeout=60)
    source = CrlUrl(url, "bench", "configuration", (issuer.certificate,), rules, 3600.0)
    got: asyncio.Future[CrlEvent] = asyncio.get_running_loop().create_future()
    client.subscribe(source, lambda event: got.done() or got.set_result(event))
    event = await got
    assert event.outcome == "updated", event
    return event.crls


async def bench(name: str, issuer: Authority, count: int) -> None:
    serials = [secrets.randbits(127) | 1 << 120 for _ in range(count)]
    data = make_list(issuer, serials, 1)
    print(f"{name}: {count:,} entries, {len(data) / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.crl"
        path.write_bytes(data)
        del data
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0", "--directory", folder,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert server.stdout is not None
        port = (await server.stdout.readline()).split()[5].decode()
        client = FetchClient(Path(folder) / "state")
        try:
            print("  file ", (await measure(from_file(client, path), issuer, serials)).line())
            print("  again", (await measure(from_file(client, path), issuer, serials)).line())
            url = f"http://127.0.0.1:{port}/large.crl"
            print("  URL  ", (await measure(from_url(client, url, issuer), issuer, serials)).line())
        finally:
            await client.close()
            server.terminate()
            await server.wait()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    issuer = authority("Bench CA")
    entries = parser.parse_args().entries
    await bench("large list", issuer, entries)
    await bench("Envoy's case", issuer, 4_600_000 // 35)
    print("goals: " + "  ".join(f"{name} {value:g}" for name, value in GOALS.items()) + " (s, s, s, MiB)")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop()) as runner:
        runner.run(main())
