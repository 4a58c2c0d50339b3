"""What a byte stream and its handler ask of each other, whatever the bytes go over."""

from typing import Protocol


class Counter(Protocol):
    """Where a stream counts its bytes; a metric's cell."""

    value: float


class NullCounter:
    """Counts for nobody."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Handler(Protocol):
    """What a stream tells its owner. `data` is only valid during the call: copy what is kept."""

    def data_received(self, data: memoryview) -> None: ...

    def eof_received(self) -> None:
        """The peer will send no more. The stream stays open for writing."""

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, error: OSError | None) -> None:
        """The stream is gone; called once, and never from inside `write`, `close` or `abort`."""


class _Gone:
    """Handler of a stream that has ended."""

    def data_received(self, data: memoryview) -> None:
        pass

    def eof_received(self) -> None:
        pass

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    def connection_lost(self, error: OSError | None) -> None:
        pass


GONE: Handler = _Gone()


class Stream(Protocol):
    """What a handler asks of its stream, whatever the bytes go over."""

    handler: Handler
    cut_off: bool
    """Whether the end that `eof_received` told may be another's doing than the peer's: TLS can tell."""

    def start(self, handler: Handler) -> None:
        """From now on `handler` is told; what came before may be told at once."""
        ...

    def resume_reading(self) -> None: ...

    def pause_reading(self) -> None: ...

    @property
    def has_news(self) -> bool:
        """Whether something (bytes, an end, an error) waits to be read now. Costs a system call."""
        ...

    def write(self, data: bytes | memoryview) -> None: ...

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""
        ...

    @property
    def closed(self) -> bool: ...

    def close(self, *, linger: bool = True) -> None: ...

    def abort(self) -> None: ...
