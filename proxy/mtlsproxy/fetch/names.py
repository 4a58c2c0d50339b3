"""Look-ups of names, each in a thread of its own: the owner of a name decides how long one takes.

In the event loop's pool a few that hang would hold up everything else that waits for a thread: reloads, denials on
their way to the disk, and connections to upstreams.
"""

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

Places = list[tuple[Any, ...]]
"""As `socket.getaddrinfo` gives them."""

_Key = tuple[str, int]


class Names:
    """Belongs to one event loop. Who asks for a name that is being looked up waits for the same answer: there are never
    more threads than names."""

    def __init__(self) -> None:
        self._flights: dict[_Key, asyncio.Future[Places]] = {}

    async def find(self, host: str, family: int) -> Places:
        """Raises OSError. A look-up goes on when nobody waits any more: it cannot be ended."""
        key = (host, family)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = self._start(key)
        return await asyncio.shield(flight)

    def _start(self, key: _Key) -> "asyncio.Future[Places]":
        loop = asyncio.get_running_loop()
        flight: asyncio.Future[Places] = loop.create_future()
        # A daemon: the process ends without waiting for it.
        thread = threading.Thread(target=_look_up, args=(loop, flight, key), name="look-up", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise OSError(f"{key[0]} cannot be looked up: {error}") from error
        flight.add_done_callback(lambda _: self._forget(key))
        return flight

    def _forget(self, key: _Key) -> None:
        self._flights.pop(key).exception()  # read here: there may be nobody else to


def _look_up(loop: asyncio.AbstractEventLoop, flight: "asyncio.Future[Places]", key: _Key) -> None:
    host, family = key
    result: Places | OSError
    try:
        result = list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, family=family))
    except OSError as error:
        result = error
    except UnicodeError as error:  # a label that is empty or longer than 63 octets
        result = OSError(f"{host!r} is no name: {error}")
    with suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(_tell, flight, result)


def _tell(flight: "asyncio.Future[Places]", result: Places | OSError) -> None:
    if isinstance(result, OSError):
        flight.set_exception(result)
    else:
        flight.set_result(result)
