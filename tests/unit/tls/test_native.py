"""What is asked of libssl takes effect, is proved first, and is refused in words where it cannot be had."""

import ctypes
import gc
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.unit.x509.build import NOW, Issued, dn, issue

from mtlsproxy.tls import native


@pytest.fixture
def context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def cache_mode(context: ssl.SSLContext) -> int:
    mode: int = native._library().SSL_CTX_ctrl(native._pointer(context), 45, 0, None)
    return mode


def advertised(context: ssl.SSLContext) -> int:
    """How many CA names `context` sends."""
    library = ctypes.CDLL(native._library()._name)
    library.SSL_CTX_get_client_CA_list.restype = ctypes.c_void_p
    library.SSL_CTX_get_client_CA_list.argtypes = [ctypes.c_void_p]
    library.OPENSSL_sk_num.argtypes = [ctypes.c_void_p]
    number: int = library.OPENSSL_sk_num(library.SSL_CTX_get_client_CA_list(native._pointer(context)))
    return number


def test_libssl_can_be_reached_here() -> None:
    """On the platforms that these tests run on; elsewhere every test below would say nothing."""
    assert native.unavailable_because() is None


def test_the_session_cache_is_turned_off(context: ssl.SSLContext) -> None:
    assert cache_mode(context) != 0
    native.turn_session_cache_off(context)
    assert cache_mode(context) == 0


def test_one_context_s_settings_are_not_another_s(context: ssl.SSLContext) -> None:
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    native.turn_session_cache_off(context)
    assert cache_mode(other) != 0


def test_python_s_own_settings_are_left_alone(context: ssl.SSLContext) -> None:
    """Options, verify mode and flags are as before."""
    context.verify_mode = ssl.CERT_REQUIRED
    before = context.options, context.verify_mode, context.verify_flags, context.num_tickets
    native.turn_session_cache_off(context)
    native.advertise_ca_names(context, [dn("CA").public_bytes()])
    native.accept_any_purpose(context)
    assert (context.options, context.verify_mode, context.verify_flags, context.num_tickets) == before


def test_ca_names_are_taken_once_each_and_replace_each_other(context: ssl.SSLContext) -> None:
    """Many, empty and non-ASCII ones; the library owns them, so a collection afterwards must not hurt."""
    names = [dn(f"CA {number}").public_bytes() for number in range(500)]
    native.advertise_ca_names(context, [*names, *names, dn("Zwölf").public_bytes(), dn("").public_bytes()])
    assert advertised(context) == 502
    native.advertise_ca_names(context, names[:1])
    assert advertised(context) == 1
    native.advertise_ca_names(context, [])
    assert advertised(context) == 0
    del context
    gc.collect()


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x31\x00", b"garbage", b"\x30\x03\x02\x01"])
def test_a_name_that_is_none_is_refused(context: ssl.SSLContext, der: bytes) -> None:
    """And leaves no error behind that the next call of the ssl module would raise as its own."""
    with pytest.raises(native.NativeUnavailable, match="does not read"):
        native.advertise_ca_names(context, [dn("CA").public_bytes(), der])
    context.load_verify_locations(cadata=issue("CA", ca=True).certificate.der)  # reports what OpenSSL has left behind


def test_without_proof_nothing_is_touched(context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the proof failed, each service says why instead of writing through a pointer."""
    monkeypatch.setattr(native, "unavailable_because", lambda: "the ssl module is built into this Python")
    for ask in (
        native.turn_session_cache_off,
        native.accept_any_purpose,
        lambda c: native.advertise_ca_names(c, [dn("CA").public_bytes()]),
    ):
        with pytest.raises(native.NativeUnavailable, match="built into") as caught:
            ask(context)
        assert caught.value.detail == "the ssl module is built into this Python"


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """A handshake in memory; raises what the server says."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [one, other]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)


def files(folder: Path, issued: Issued) -> tuple[Path, Path]:
    certificate, key = folder / "leaf.pem", folder / "leaf.key"
    certificate.write_bytes(issued.certificate.x509.public_bytes(Encoding.PEM))
    key.write_bytes(issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


@pytest.mark.parametrize("asked", [True, False], ids=["any purpose", "OpenSSL's purpose"])
def test_the_purpose_is_left_to_us_where_that_is_asked(context: ssl.SSLContext, tmp_path: Path, asked: bool) -> None:
    """A leaf with anyExtendedKeyUsage alone: OpenSSL's fixed clientAuth purpose refuses it (security.md)."""
    ca = issue("CA", ca=True, end=NOW.replace(year=2100))
    leaf = issue("leaf", ca, eku=["2.5.29.37.0"], end=NOW.replace(year=2100))
    context.load_verify_locations(cadata=ca.certificate.der)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*files(tmp_path, leaf))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.load_cert_chain(*files(tmp_path, leaf))
    if asked:
        native.accept_any_purpose(context)
        handshake(context, client)
    else:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            handshake(context, client)
        assert caught.value.verify_code == 26


def test_the_proof_holds_in_a_process_of_its_own() -> None:
    """No crash and no warning: a wrong pointer would end a process, not raise."""
    code = "from mtlsproxy.tls import native; print(native.unavailable_because())"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "None\n", "")
