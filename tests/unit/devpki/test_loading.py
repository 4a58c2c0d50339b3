"""Certificates that an operator hands to `revoke`: only what the CA itself signed, unaltered, is taken."""

import warnings
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.devpki import DevPki, KeyType, PkiError, create_pki
from mtlsproxy.devpki.keys import generate_key, key_pem
from mtlsproxy.devpki.pki import load_certificate


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> tuple[DevPki, bytes, bytes]:
    """A PKI, a leaf of it as DER, and its chain file."""
    pki = create_pki(Path(tmp_path_factory.mktemp("loading")) / "dev", "Example")
    leaf = pki.issue("CN=alice,O=Example", ["URI:spiffe://example.org/a"])
    return pki, leaf.certificate.public_bytes(serialization.Encoding.DER), leaf.chain_pem


def test_the_first_certificate_of_a_chain_is_taken_and_der_is_read_too(issued: tuple[DevPki, bytes, bytes]) -> None:
    _, der, chain = issued
    assert (
        load_certificate(der, "x.pem") == load_certificate(chain, "x.pem") == load_certificate(b"\n" + chain, "x.pem")
    )


def test_a_key_in_place_of_a_certificate_is_called_that() -> None:
    key = key_pem(generate_key(KeyType.EC))
    with pytest.raises(
        PkiError, match=r"x\.key: not a certificate .* but PRIVATE KEY: name the file of the certificate"
    ):
        load_certificate(key, "x.key")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_truncated_or_longer_certificate_is_refused(issued: tuple[DevPki, bytes, bytes], data: st.DataObject) -> None:
    _, der, _ = issued
    cut = data.draw(st.integers(0, len(der) - 1))
    for damaged in (der[:cut], der + der[: cut + 1]):
        with pytest.raises(PkiError, match=r"x\.pem: not a certificate"):
            load_certificate(damaged, "x.pem")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_altered_certificate_is_not_of_this_pki(issued: tuple[DevPki, bytes, bytes], data: st.DataObject) -> None:
    """The signature's own encoding has some slack (unused bits of its BIT STRING); what it signs has none."""
    pki, der, _ = issued
    altered = bytearray(der)
    altered[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography warns of odd serial numbers and lengths
        try:
            certificate = load_certificate(bytes(altered), "x.pem")
            pki.revoke(certificate)
        except PkiError:
            return
    assert certificate.tbs_certificate_bytes == load_certificate(der, "x.pem").tbs_certificate_bytes
