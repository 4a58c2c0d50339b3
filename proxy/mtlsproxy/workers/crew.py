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

PING_EVERY = 2.0
"""Seconds between two questions whether a worker is there still: they cost next to nothing."""

PINGS_UNANSWERED = 10
"""After so many, 20 s, a worker is killed and replaced: nothing that it does holds its loop for a tenth of that, and
its clients wait. Counted, not timed: a supervisor that was itself stopped for a while must not blame its workers."""

SILENT = 2
"""Pings unanswered after which nobody who is in a hurry waits for it."""

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
        self.leaving = False
        """It accepts no more, and ends once those whom it serves are gone."""
        self.settled = asyncio.Event()
        """It is ready, has failed, or has ended."""
        self.failure: tuple[str, ...] = ()
        self.unanswered = 0
        """Pings in a row."""
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

    def ping(self) -> None:
        self.unanswered += 1
        self.send({"op": "ping"})

    def kill(self, why: str) -> None:
        """why: it has to be replaced, as the end of a sentence."""
        if self.process.returncode is not None:
            return
        log.error("worker %d (process %d) %s: it is killed", self.number, self.process.pid, why)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def close(self) -> None:
        """Its process has ended."""
        self._channel.close()
        self._gone()
        self.numbers.close()

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        match message["op"]:
            case "ready":
                self.ready = True
                self.settled.set()
                self._crew.on_ready(self)
                self._crew.on_change()
            case "leaving":
                self.leaving = True
                self._crew.on_change()
            case "failed":
                self.failure = tuple(message["errors"])
                self.settled.set()
            case "answer":
                self._questions.answered(message)
            case "pong":
                self.unanswered = 0
            case _:
                self._crew.on_message(self, message)

    def _gone(self) -> None:
        self.ready = False
        self.settled.set()
        self._questions.gone()


class Crew:
    """`count` workers. start: says to a new worker what it serves. on_ready, on_message: what they say. on_change:
    others than before accept connections."""

    def __init__(
        self,
        count: int,
        metrics: Metrics,
        start: Callable[[Worker, int], None],
        on_ready: Callable[[Worker], None],
        on_message: Callable[[Worker, Message], None],
        on_gone: Callable[[Worker], None],
        on_change: Callable[[], None],
    ) -> None:
        self.count = count
        self.on_change = on_change
        self.on_ready = on_ready
        self.on_message = on_message
        self._start = start
        self._on_gone = on_gone
        self._metrics = metrics
        self._keepers: list[asyncio.Task[None]] = []
        self._workers: dict[int, Worker] = {}
        self._stopping = asyncio.Event()
        self._pinging: asyncio.TimerHandle | None = None
        self._waits = dict.fromkeys(range(count), FIRST_WAIT)
        """Seconds before the next start of each."""
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
    def accepting(self) -> list[Worker]:
        return [worker for worker in self.ready if not worker.leaving]

    @property
    def numbers(self) -> list[Numbers]:
        """What each has counted, as of its last word."""
        return [worker.numbers.read() for worker in self.workers]

    async def launch(self) -> tuple[str, ...]:
        """Start all. Why they cannot, a line each; then none is left."""
        self._ping()
        first: list[Worker] = []
        try:
            for number in range(self.count):
                first.append(await self._spawn(number))
        except OSError as error:
            await self._end_all(first)
            return (f"a worker process cannot be started: {error.strerror or error}",)
        for worker in first:
            await worker.settled.wait()
        failures = tuple(dict.fromkeys(line for worker in first for line in worker.failure))
        if not failures and not all(worker.ready for worker in first):
            failures = ("a worker process ended while it started: see its messages above",)
        if failures:
            await self._end_all(first)
            return failures
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(self._keep(worker)) for worker in first]
        return ()

    async def ask_all(self, message: Message) -> list[Message]:
        """The answers of those that are ready and give one soon; nobody waits for one known to be silent."""
        asked = [worker for worker in self.ready if worker.unanswered <= SILENT]
        return list((await self.ask_each(asked, message)).values())

    async def ask_each(
        self,
        workers: Sequence[Worker],
        message: Message,
        descriptors: Sequence[Sequence[int]] = (),
        seconds: float = ANSWER_WITHIN,
    ) -> dict[Worker, Message]:
        """The answers of those that live to give one in time. descriptors: for each worker number."""

        async def ask(worker: Worker) -> Message | None:
            try:
                return await worker.ask(message, descriptors[worker.number] if descriptors else (), seconds)
            except WorkerGone:
                return None

        answers = await asyncio.gather(*map(ask, workers))
        return {worker: answer for worker, answer in zip(workers, answers, strict=True) if answer is not None}

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
            worker.kill("did not end in time")
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=LONGEST_WAIT)
        if self._pinging is not None:
            self._pinging.cancel()

    def _ping(self) -> None:
        """Who hangs is as good as gone, and nobody else would notice."""
        for worker in self.workers:
            if worker.unanswered >= PINGS_UNANSWERED:
                worker.kill(f"has not answered for {PING_EVERY * PINGS_UNANSWERED:g} s")
            worker.ping()
        self._pinging = asyncio.get_running_loop().call_later(PING_EVERY, self._ping)

    # -- one worker after another ----------------------------------------------------------------------------------

    async def _keep(self, first: Worker) -> None:
        """Wait for its end, and start another one in its place, again and again."""
        loop = asyncio.get_running_loop()
        worker: Worker | None = first
        while worker is not None:
            code = await worker.process.wait()
            lived = loop.time() - worker.began
            self._bury(worker)
            if self._stopping.is_set():
                return
            if lived > STEADY:
                self._waits[worker.number] = FIRST_WAIT
            words = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with status {code}"
            why = "".join(f": {line}" for line in worker.failure[:1])
            log.error("worker %d (process %d) %s%s; started again in %.1f s", worker.number, worker.process.pid,
                      words, why, self._waits[worker.number])  # fmt: skip
            worker = await self._replace(worker.number)

    async def _replace(self, number: int) -> Worker | None:
        """Another one, as soon as one can be started; None: nobody is to be started any more."""
        while not await self._stopping_within(self._waits[number]):
            self._waits[number] = min(self._waits[number] * 2, LONGEST_WAIT)
            try:
                worker = await self._spawn(number)
            except OSError as error:
                log.error("worker %d cannot be started: %s; tried again in %.1f s", number,
                          error.strerror or error, self._waits[number])  # fmt: skip
                continue
            self.restarts += 1
            if self._stopping.is_set():
                worker.send({"op": "stop"})  # it was not there yet when the others were told
            return worker
        return None

    async def _stopping_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    def _bury(self, worker: Worker) -> None:
        self.departed.add(self._metrics, worker.numbers.read())
        self._workers.pop(worker.number, None)
        worker.close()
        self._on_gone(worker)
        self.on_change()

    async def _spawn(self, number: int) -> Worker:
        """Raises OSError, with nothing left behind."""
        with contextlib.ExitStack() as opened:
            ours, theirs = socket.socketpair()
            opened.callback(ours.close)
            with theirs:
                memory = make_memory()
                opened.callback(os.close, memory)
                shared = os.dup(memory)
                opened.callback(os.close, shared)
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "mtlsproxy.workers", str(theirs.fileno()), str(os.getpid()),
                    pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
            opened.pop_all()
        worker = self._workers[number] = Worker(number, process, ours, memory, self)
        self._start(worker, shared)
        os.close(shared)
        return worker

    async def _end_all(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
            await worker.process.wait()
            self._bury(worker)
        if self._pinging is not None:
            self._pinging.cancel()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
