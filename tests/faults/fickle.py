"""An upstream that cannot be relied on, as a process of its own: `python fickle.py PORT CHARACTER LEDGER`.

CHARACTER: `restless` answers everything well, and ends connections that rest, at random moments; `wild` does all that
and at random everything else that a server can do wrong, but never gives one request the answer of another. SIGUSR1
makes it behave from then on.

Well answered requests are told as application.py tells them. Each of them is a line of LEDGER, `METHOD PATH`, written
before the answer is sent: what stands there has been done.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import sys

Writer = asyncio.StreamWriter
Reader = asyncio.StreamReader

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


class Fickle:
    def __init__(self, character: str, ledger: int) -> None:
        self.behaves = False
        self._wild = character == "wild"
        self._ledger = ledger
        self._random = random.Random(0)

    def behave(self) -> None:
        self.behaves = True

    async def serve(self, reader: Reader, writer: Writer) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            patience = None  # a connection that is new is taken seriously
            while await self._exchange(reader, writer, patience):
                patience = None if self.behaves else self._random.choice((None, None, 0.001, 0.003, 0.01, 0.03))
        writer.close()

    async def _exchange(self, reader: Reader, writer: Writer, patience: float | None) -> bool:
        """One request, if it comes within `patience` seconds; whether the connection goes on."""
        try:
            async with asyncio.timeout(patience):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except TimeoutError:
            if self._random.random() < 0.5:
                writer.transport.abort()
            return False
        method, path, _ = head.split(" ", 2)
        if self._wild and not self.behaves and self._random.random() < 0.3:
            await self._random.choice((reset, close, half_a_head, garble, stall, cut, break_off, refuse_early))(writer)
            return False
        body = await self._body(reader, head)
        os.write(self._ledger, f"{method} {path}\n".encode())
        said = f"{method} {path} {len(body)} {hashlib.sha256(body).hexdigest()}".encode()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said)
        if not self._wild or self.behaves:
            writer.write(answer)
            return True
        return await self._random.choice((plain, plain, hinted, trickled, surplus, closed, aborted))(writer, answer)

    async def _body(self, reader: Reader, head: str) -> bytes:
        fields = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in head.split("\r\n"))}
        if "transfer-encoding" not in fields:
            return await reader.readexactly(int(fields.get("content-length", 0)))
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return body


# -- instead of an answer --------------------------------------------------------------------------------------------


async def reset(writer: Writer) -> None:
    writer.transport.abort()


async def close(writer: Writer) -> None:
    writer.close()


async def half_a_head(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")


async def garble(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Length: 7\r\n\r\npoison")


async def stall(writer: Writer) -> None:
    await asyncio.sleep(3)


async def cut(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npoison")


async def break_off(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\nnone\r\n")


async def refuse_early(writer: Writer) -> None:
    """Before the body was read; what of it comes is thrown away for a moment, so that no reset takes the answer."""
    writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    await asyncio.sleep(0.1)


# -- an answer, and what comes with it; whether the connection goes on -------------------------------------------------


async def plain(writer: Writer, answer: bytes) -> bool:
    writer.write(answer)
    return True


async def hinted(writer: Writer, answer: bytes) -> bool:
    writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer)
    return True


async def trickled(writer: Writer, answer: bytes) -> bool:
    for at in range(0, len(answer), 10):
        writer.write(answer[at : at + 10])
        await asyncio.sleep(0.005)
    return True


async def surplus(writer: Writer, answer: bytes) -> bool:
    """Two answers at once."""
    writer.write(answer + POISON)
    return True


async def closed(writer: Writer, answer: bytes) -> bool:
    """An end that was not announced."""
    writer.write(answer)
    return False


async def aborted(writer: Writer, answer: bytes) -> bool:
    writer.write(answer)
    writer.transport.abort()
    return False


async def main() -> None:
    port, character, ledger = sys.argv[1:]
    fickle = Fickle(character, os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, fickle.behave)
    server = await asyncio.start_server(fickle.serve, "127.0.0.1", int(port), backlog=128)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
