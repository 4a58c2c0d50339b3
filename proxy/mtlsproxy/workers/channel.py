"""Messages between supervisor and worker: JSON over a unix socket, file descriptors beside them.

A message is eight octets (length of the JSON, number of descriptors; both big-endian) and the JSON. Nothing here
waits: what the other side does not take now is kept, for the two are one program and take all that they are sent.
"""

import asyncio
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import orjson

MAX_MESSAGE = 64 * 1024 * 1024
"""Octets. Refusals and clients of a worker fit many times; what is longer is a mistake of ours."""

_HEADER = struct.Struct("!II")
_MAX_DESCRIPTORS = 250  # SCM_MAX_FD is 253
_CHUNK = 256 * 1024

log = logging.getLogger(__name__)

Message = dict[str, Any]


class Channel:
    """One end. `on_message(message, descriptors)` and, once, `on_end()` are called on the loop.

    Descriptors that come are the receiver's to close; those that are sent stay the sender's.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_message: Callable[[Message, list[int]], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._unsent: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._closed = False
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._on_readable)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Descriptors are duplicated, so that they may be closed at once."""
        if self._closed:
            return
        data = orjson.dumps(message)
        kept = [os.dup(descriptor) for descriptor in descriptors]
        whole = memoryview(_HEADER.pack(len(data), len(kept)) + data)
        self._unsent.append((whole, kept))
        if len(self._unsent) == 1:
            self._on_writable()

    def close(self) -> None:
        """No more in either direction; `on_end` is not called."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        for _, descriptors in self._unsent:
            _close_all(descriptors)
        _close_all(self._descriptors)
        self._sock.close()

    def _on_writable(self) -> None:
        while self._unsent:
            data, descriptors = self._unsent[0]
            try:
                if descriptors:
                    sent = socket.send_fds(self._sock, [data[:_CHUNK]], descriptors)
                else:
                    sent = self._sock.send(data[:_CHUNK])
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock.fileno(), self._on_writable)
                return
            except OSError:
                self._end()
                return
            _close_all(descriptors)
            if sent == len(data):
                self._unsent.popleft()
            else:
                self._unsent[0] = (data[sent:], ())
        self._loop.remove_writer(self._sock.fileno())

    def _on_readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, _CHUNK, _MAX_DESCRIPTORS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._descriptors.extend(descriptors)
        if not data:
            self._end()
            return
        self._received += data
        self._take()

    def _take(self) -> None:
        received = self._received
        while len(received) >= _HEADER.size and not self._closed:
            size, count = _HEADER.unpack_from(received)
            if size > MAX_MESSAGE:
                log.critical("a message of %d octets between supervisor and worker: the channel is broken", size)
                self._end()
                return
            end = _HEADER.size + size
            if len(received) < end:
                return
            message = orjson.loads(received[_HEADER.size : end])
            del received[:end]
            self._on_message(message, [self._descriptors.popleft() for _ in range(count)])

    def _end(self) -> None:
        if not self._closed:
            self.close()
            self._on_end()


def _close_all(descriptors: Sequence[int] | deque[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
