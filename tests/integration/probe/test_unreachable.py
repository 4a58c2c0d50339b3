"""What cannot be asked is said in words, with exit status 2, and never taken for an answer."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.integration.clients import PATIENCE
from tests.integration.harness import free_port
from tests.integration.probe.conftest import Answer, probe


@contextmanager
def saying(data: bytes | None, count: int = 2) -> Iterator[int]:
    """A server that says this to whatever it hears, and closes; None: nothing, and keeps the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept = []

        def serve() -> None:
            for _ in range(count):
                try:
                    sock = listening.accept()[0]
                except OSError:
                    return
                sock.settimeout(PATIENCE)
                sock.recv(65536)
                if data is None:
                    kept.append(sock)
                else:
                    sock.sendall(data)
                    sock.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)  # wakes accept
        thread.join(PATIENCE)
        for sock in kept:
            sock.close()


def refused(answer: Answer) -> str:
    assert answer.status == 2
    assert answer.stdout == ""
    return answer.stderr


def test_a_closed_port() -> None:
    words = refused(probe(free_port(), text=True))
    assert "127.0.0.1: Connection refused" in words
    assert "listening" in words


def test_a_name_without_an_address() -> None:
    words = refused(probe(443, host="no-such-host.invalid", text=True))
    assert words.startswith("no-such-host.invalid: the name has no address")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS here: it answered 'HTTP/1.1 400 Bad Request'"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "it answered 'SSH-2.0-OpenSSH_9.6'"),
        (b"220 mail.example ESMTP\r\n", "it answered '220 mail.example ESMTP'"),
        (b"\x1b[31mred\r\n", r"it answered '\x1b[31mred'"),
        (b"", "the server closed the connection"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "alert protocol_version; it speaks no TLS from version 1.2 on"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "alert handshake_failure; it has no cipher in common"),
        (b"\x15\x03\x03\x00\x02\x02\x70", "say what it is called with --server-name"),
        (b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", "TLS with the server failed"),
        (b"\x16\x03\x03", "the server closed the connection"),
    ],
)
def test_a_server_that_does_not_shake_hands(said: bytes, words: str) -> None:
    with saying(said) as port:
        assert words in refused(probe(port, text=True))


def test_a_server_that_says_nothing() -> None:
    with saying(None) as port:
        assert "said nothing in time" in refused(probe(port, "--timeout", "0.2", text=True))


def test_in_json_the_error_is_json() -> None:
    answer = probe(free_port())
    assert answer.status == 2
    assert answer.json["ok"] is False
    assert "Connection refused" in answer.json["errors"][0]["message"]


@pytest.mark.parametrize(
    "target", ["", "a:b:c", "host:", "host:0", "host:65536", "user@host:1", "ho st:1", "http://a:1"]
)
def test_a_target_that_is_none(target: str) -> None:
    from click.testing import CliRunner

    from mtlsproxy.cli import cli

    result = CliRunner().invoke(cli, ["probe", target])
    assert result.exit_code == 2
    assert "HOST:PORT" in result.stderr


@pytest.mark.parametrize(
    ("host", "called"),
    [("[::1]", "[::1]:"), ("bücher.invalid", "xn--bcher-kva.invalid: "), ("https://a.invalid", "a.invalid: ")],
)
def test_a_target_may_be_an_ipv6_address_a_name_in_another_script_or_a_url(host: str, called: str) -> None:
    assert refused(probe(free_port(), host=host, text=True)).startswith(called)
