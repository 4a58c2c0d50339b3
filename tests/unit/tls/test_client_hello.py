"""Our reading of a ClientHello: what real clients send, in any pieces; and nothing but BadClientHello for the rest."""

import ssl
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.tls.client_hello import MAX_CLIENT_HELLO, MAX_RECORDS, BadClientHello, ClientHello, parse_client_hello


def real_hello(name: str | None = "orders.test", alpn: Sequence[str] = (), **versions: ssl.TLSVersion) -> bytes:
    """What OpenSSL sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    for attribute, version in versions.items():
        setattr(context, attribute, version)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


REAL = real_hello(alpn=["h2", "http/1.1"])


def sized(data: bytes, octets: int) -> bytes:
    """`data` behind its length."""
    return len(data).to_bytes(octets, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + sized(data, 2)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return bytes([kind]) + sized(name, 2)


def sni(*names: bytes) -> bytes:
    return extension(0, sized(b"".join(names), 2))


def message(extensions: bytes | None, *, behind: bytes = b"") -> bytes:
    body = b"\x03\x03" + bytes(32) + sized(b"", 1) + sized(b"\x13\x01", 2) + sized(b"\0", 1)
    if extensions is not None:
        body += sized(extensions, 2)
    return b"\x01" + sized(body + behind, 3)


def records(data: bytes, size: int = 16384) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"\x16\x03\x01" + sized(part, 2) for part in parts)


def hello(*extensions: bytes) -> bytes:
    return records(message(b"".join(extensions)))


def bad(data: bytes) -> str:
    with pytest.raises(BadClientHello) as caught:
        parse_client_hello(data)
    assert caught.value.detail == str(caught.value)
    return caught.value.detail


# -- accepted ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_real_client_hello(version: ssl.TLSVersion) -> None:
    data = real_hello("orders.test", ["h2", "http/1.1"], minimum_version=version, maximum_version=version)
    assert parse_client_hello(data) == ClientHello("orders.test", (b"h2", b"http/1.1"))


def test_without_name_and_protocols() -> None:
    assert parse_client_hello(real_hello(None)) == ClientHello(None, ())


def test_the_name_is_as_sent() -> None:
    """Lowering is the caller's: OpenSSL's reading, which this one is compared with, does not lower either."""
    assert parse_client_hello(hello(sni(server_name(b"OrDers.Test.")))) == ClientHello("OrDers.Test.", ())


def test_no_extensions_at_all() -> None:
    """Legal before TLS 1.3 (RFC 5246 §7.4.1.2)."""
    assert parse_client_hello(records(message(None))) == ClientHello(None, ())


@pytest.mark.parametrize("size", [len(REAL) // MAX_RECORDS + 1, 50, 100, 16384])
def test_split_over_records(size: int) -> None:
    """RFC 8446 §5.1: a message may be spread over records of any length but zero."""
    assert parse_client_hello(records(REAL[5:], size)) == parse_client_hello(REAL)


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5])
def test_a_first_record_shorter_than_the_message_header(first: int) -> None:
    assert parse_client_hello(records(REAL[5 : 5 + first]) + records(REAL[5 + first :])) == parse_client_hello(REAL)


def test_split_over_too_many_records() -> None:
    """Records of one byte would have every one of them looked at again with each that comes."""
    assert bad(records(REAL[5:], 1)) == f"a ClientHello in more than {MAX_RECORDS} records"
    assert bad(records(REAL[5:], 1)[: 6 * MAX_RECORDS])


@pytest.mark.parametrize(
    "data", [REAL, records(REAL[5:], 100), hello(sni(server_name(b"a")))], ids=["1", "many", "own"]
)
def test_every_beginning_asks_for_more(data: bytes) -> None:
    """Cut anywhere, it is never refused and never read too early."""
    assert all(parse_client_hello(data[:end]) is None for end in range(len(data)))
    assert parse_client_hello(data) is not None


# -- refused -----------------------------------------------------------------------------------------------------------


def not_handshakes() -> Iterator[tuple[bytes, str]]:
    yield b"GET / HTTP/1.1\r\n", "plain HTTP"
    yield b"POST", "plain HTTP"
    yield b"\x17\x03\x03\x00\x01\x00", "not a TLS handshake"
    yield b"\x80\x2e\x01", "not a TLS handshake"  # an SSL 2 ClientHello
    yield b"\x16\x02", "not a TLS record"
    yield b"\x16\x03\x01\x00\x00", "impossible length"
    yield b"\x16\x03\x01\x40\x01", "impossible length"
    yield b"\x16\x03\x01\x00\x01\x02", "not a ClientHello"
    yield b"\x16\x03\x01\x00\x04\x01\x00\x80\x00", "too large"
    yield records(message(b""))[:-2] + b"\x00\x01", "past the end"


@pytest.mark.parametrize(("data", "words"), list(not_handshakes()))
def test_what_is_no_client_hello(data: bytes, words: str) -> None:
    assert words in bad(data)


def test_a_record_of_another_type_in_between() -> None:
    cut = records(REAL[5:], 10)
    second = 15  # the first record's header and its 10 bytes
    assert "another type" in bad(cut[:second] + b"\x14" + cut[second + 1 :])


def test_bytes_behind_it() -> None:
    """In its last record: OpenSSL would take them for the next message, which we have not seen."""
    data = bytearray(REAL)
    data[3:5] = (len(REAL) - 5 + 1).to_bytes(2, "big")
    assert "behind" in bad(bytes(data) + b"\0")
    assert "behind" in bad(records(message(b"", behind=b"\0")))


def test_a_second_record_behind_it_is_not_looked_at() -> None:
    """Early data (RFC 8446 §4.2.10) may follow; it is OpenSSL's to judge."""
    assert parse_client_hello(REAL + b"\x17\x03\x03\x00\x01\x00") == parse_client_hello(REAL)


@pytest.mark.parametrize("kind", [0, 16, 43, 0xFAFA])
def test_an_extension_twice(kind: int) -> None:
    """RFC 8446 §4.2."""
    body = sized(server_name(b"a.test"), 2) if kind == 0 else sized(sized(b"h2", 1), 2) if kind == 16 else b""
    assert "twice" in bad(hello(extension(kind, body), extension(kind, body)))


@pytest.mark.parametrize(
    "malformed",
    [
        sni(),
        sni(server_name(b"")),
        sni(server_name(b"a.test"), server_name(b"b.test")),
        sni(server_name(b"a.test", kind=1)),
        sni(server_name(b"a" * 256)),
        sni(server_name(b"a\0b.test")),
        sni(server_name(b"a b.test")),
        sni(server_name("ä.test".encode())),
        extension(0, b""),
        extension(0, sized(server_name(b"a.test"), 2) + b"\0"),
        extension(0, sized(server_name(b"a.test")[:-1], 2)),
        extension(16, b"\x00\x05\x02h2"),
        extension(16, sized(sized(b"h2", 1), 2) + b"\0"),
    ],
)
def test_malformed_extensions(malformed: bytes) -> None:
    """Names that could be read in two ways, and lengths that do not fit (RFC 6066 §3, RFC 7301 §3.1)."""
    assert bad(hello(malformed))


def test_the_longest_name_is_taken() -> None:
    name = "a" * 255
    assert parse_client_hello(hello(sni(server_name(name.encode())))) == ClientHello(name, ())


def test_size_limit() -> None:
    """MAX_CLIENT_HELLO holds for the message; one byte more is refused as soon as its length is known."""
    room = MAX_CLIENT_HELLO - len(message(b"")) - 4
    assert parse_client_hello(hello(extension(0xFAFA, bytes(room)))) == ClientHello(None, ())
    assert "too large" in bad(hello(extension(0xFAFA, bytes(room + 1)))[:30])


# -- fuzzed ------------------------------------------------------------------------------------------------------------


def parsed_or_refused(data: bytes) -> ClientHello | None:
    try:
        return parse_client_hello(data)
    except BadClientHello:
        return None


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes) -> None:
    """Nothing but BadClientHello leaves the parser, whether the bytes come bare, in a record or as extensions."""
    parsed_or_refused(data)
    parsed_or_refused(b"\x16\x03\x01" + sized(data, 2))
    parsed_or_refused(records(b"\x01" + sized(data, 3)))
    parsed_or_refused(records(message(data)))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_mutations_of_a_real_one(data: st.DataObject) -> None:
    """One to four bytes changed, removed or put in."""
    mutated = bytearray(REAL)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    found = parsed_or_refused(bytes(mutated))
    assert found is None or found.server_name is None or found.server_name.isascii()


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.integers(20, 100))
@settings(max_examples=100, deadline=None)
def test_protocols_survive_any_fragmentation(protocols: list[bytes], size: int) -> None:
    """What is put in comes out, in order."""
    alpn = extension(16, sized(b"".join(sized(p, 1) for p in protocols), 2))
    whole = message(sni(server_name(b"a.test")) + alpn)
    assert parse_client_hello(records(whole, size)) == ClientHello("a.test", tuple(protocols))
