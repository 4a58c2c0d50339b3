"""The workers as processes: started, asked, and started again, ever later, when they end unasked."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence

from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.workers.channel import Channel, Message
from mtlsproxy.workers.numbers import Numbers, SharedNumbers, make_memory
from mtlsproxy.workers.orders import ANSWER_WITHIN, Questions, WorkerGone
from mtlsproxy.workers.sums import Departed

FIRST_WAIT = 0.1
"""Seconds before a worker that crashed is started again; doubled while it keeps crashing."""

LONGEST_WAIT = 10.0

STEADY = 30.0
"""Seconds of life after which a crash counts as the first again."""

log = logging.getLogger(__name__)


class Worker:
    """One process. ready: it accepts connections. failure: why it could not start, a line each."""

    def __init__(self, number: int, process: Process, channel_end: socket.socket, memory: int, crew: "Crew") -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.process = process
        self.numbers = SharedNumbers(memory)
        self.ready = False
        self.settled = asyncio.Event()
        """It is ready, has failed, or has ended."""
        self.failure: tuple[str, ...] = ()
        self.began = loop.time()
        self._crew = crew
        self._channel = Channel(loop, channel_end, self._hear, self._gone)
        self._questions = Questions(self._channel.send)

    @property
    def party(self) -> str:
        """Its name at the relay."""
        return f"worker {self.process.pid}"

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        self._channel.send(message, descriptors)

    async def ask(self, message: Message, descriptors: Sequence[int] = (), seconds: float = ANSWER_WITHIN) -> Message:
        """Raises WorkerGone."""
        return await self._questions.ask(message, descriptors, seconds)

    def close(self) -> None:
        """Its process has ended."""
        self.ready = False
        self._channel.close()
        self._gone()
        self.numbers.close()

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        match message["op"]:
            case "ready":
                self.ready = True
                self.settled.set()
                self._crew.on_ready(self)
            case "failed":
                self.failure = tuple(message["errors"])
                self.settled.set()
            case "answer":
                self._questions.answered(message)
            case _:
                self._crew.on_message(self, message)

    def _gone(self) -> None:
        self.settled.set()
        self._questions.gone()


class Crew:
    """`count` workers. start: says to a new worker what it serves. on_ready, on_message: what they say."""

    def __init__(
        self,
        count: int,
        metrics: Metrics,
        start: Callable[[Worker, int], None],
        on_ready: Callable[[Worker], None],
        on_message: Callable[[Worker, Message], None],
        on_gone: Callable[[Worker], None],
    ) -> None:
        self.count = count
        self.on_ready = on_ready
        self.on_message = on_message
        self._start = start
        self._on_gone = on_gone
        self._metrics = metrics
        self._keepers: list[asyncio.Task[None]] = []
        self._workers: dict[int, Worker] = {}
        self._stopping = asyncio.Event()
        self.departed = Departed()
        self.restarts = 0
        metrics.workers.watch((), lambda: len(self.ready))
        metrics.worker_restarts_total.watch((), lambda: self.restarts)

    @property
    def workers(self) -> list[Worker]:
        """Those that run, by number."""
        return [self._workers[number] for number in sorted(self._workers)]

    @property
    def ready(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.ready]

    @property
    def numbers(self) -> list[Numbers]:
        """What each has counted, as of its last word."""
        return [worker.numbers.read() for worker in self.workers]

    async def launch(self) -> tuple[str, ...]:
        """Start all. Why they cannot, a line each; then none is left."""
        first = [await self._spawn(number) for number in range(self.count)]
        for worker in first:
            await worker.settled.wait()
        failures = tuple(dict.fromkeys(line for worker in first for line in worker.failure))
        if not failures and not all(worker.ready for worker in first):
            failures = ("a worker process ended while it started: see its messages above",)
        if failures:
            for worker in first:
                await self._end(worker)
            return failures
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(self._keep(worker)) for worker in first]
        return ()

    async def ask_all(
        self, message: Message, descriptors: Sequence[Sequence[int]] = (), seconds: float = ANSWER_WITHIN
    ) -> list[Message]:
        """The answers of those that are ready and live to give one. descriptors: for each worker number."""

        async def ask(worker: Worker) -> Message | None:
            try:
                return await worker.ask(message, descriptors[worker.number] if descriptors else (), seconds)
            except WorkerGone:
                return None

        answers = await asyncio.gather(*(ask(worker) for worker in self.ready))
        return [answer for answer in answers if answer is not None]

    def tell_all(self, message: Message) -> None:
        for worker in self.ready:
            worker.send(message)

    async def stop(self, seconds: float) -> None:
        """Have all drain and end; those that have not after `seconds` are killed."""
        self._stopping.set()
        for worker in self.workers:
            worker.send({"op": "stop"})
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=seconds)
        for worker in self.workers:
            log.error("worker %d did not end in time: it is killed", worker.number)
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=LONGEST_WAIT)

    # -- one worker after another ----------------------------------------------------------------------------------

    async def _keep(self, worker: Worker) -> None:
        """Wait for its end, and start another one in its place."""
        wait = FIRST_WAIT
        loop = asyncio.get_running_loop()
        while True:
            code = await worker.process.wait()
            lived = loop.time() - worker.began
            self._bury(worker)
            if self._stopping.is_set():
                return
            if lived > STEADY:
                wait = FIRST_WAIT
            words = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with status {code}"
            why = "".join(f": {line}" for line in worker.failure[:1])
            log.error("worker %d (process %d) %s%s; started again in %.1f s", worker.number, worker.process.pid,
                      words, why, wait)  # fmt: skip
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)
            if self._stopping.is_set():
                return
            self.restarts += 1
            worker = await self._spawn(worker.number)

    def _bury(self, worker: Worker) -> None:
        self.departed.add(self._metrics, worker.numbers.read())
        self._workers.pop(worker.number, None)
        worker.close()
        self._on_gone(worker)

    async def _spawn(self, number: int) -> Worker:
        ours, theirs = socket.socketpair()
        memory = make_memory()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "mtlsproxy.workers", str(theirs.fileno()), str(os.getpid()),
                pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        shared = os.dup(memory)
        worker = self._workers[number] = Worker(number, process, ours, memory, self)
        self._start(worker, shared)
        os.close(shared)
        return worker

    async def _end(self, worker: Worker) -> None:
        with contextlib.suppress(ProcessLookupError):
            worker.process.kill()
        await worker.process.wait()
        self._bury(worker)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
