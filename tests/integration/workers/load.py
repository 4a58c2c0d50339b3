"""Clients that ask and ask, on threads of their own: some stay on one connection, some come ever anew."""

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.integration.clients import tls
from tests.integration.workers.conftest import Several


@dataclass
class Load:
    """lost: what became of requests without an answer, by client. answers: their status."""

    port: int
    context: ssl.SSLContext
    path: str = "/"
    answers: list[int] = field(default_factory=list)
    lost: dict[int, list[str]] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def losses(self) -> list[str]:
        return [loss for losses in self.lost.values() for loss in losses]

    def client(self, number: int, stays: bool) -> None:
        while not self.ended.is_set():
            try:
                with tls(self.port, self.context) as connection:
                    answered = 0
                    while not self.ended.is_set() and (stays or not answered):
                        answer = connection.get(self.path)
                        self.answers.append(answer.status)
                        answered += 1
                        if answer.values("Connection") == ["close"]:
                            break
            except (OSError, EOFError) as error:
                self.lost.setdefault(number, []).append(repr(error))


@contextlib.contextmanager
def load(several: Several, context: ssl.SSLContext, clients: int = 6, path: str = "/") -> Iterator[Load]:
    """Half of the clients stay."""
    running = Load(several.port(), context, path)
    threads = [
        threading.Thread(target=running.client, args=(number, number % 2 == 0), daemon=True)
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield running
    finally:
        running.ended.set()
        for thread in threads:
            thread.join()
