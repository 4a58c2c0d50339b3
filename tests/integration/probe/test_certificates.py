"""Would this certificate be accepted, and is the server who it says it is?"""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from tests.integration.certificates import DAY, NOW, Identity, identity, issue, write_key
from tests.integration.probe.conftest import NAME, StartNginx, StartOpenssl, World, probe
from tests.unit.x509.build import Issued, rsa_key

VERSIONS = ("TLSv1.2", "TLSv1.3")


def presenting(client: Identity) -> tuple[object, ...]:
    return "--cert", client.certificate, "--key", client.key


def of(world: World, mode: str) -> str:
    return f"ssl_client_certificate {world.acceptable}; ssl_verify_client {mode};"


# -- the client's -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_good_certificate_is_accepted(nginx: StartNginx, world: World, version: str) -> None:
    answer = probe(nginx(of(world, "on"), version), *presenting(world.client()))
    assert answer.status == 0
    assert answer.json["client_certificate"] == "required"
    assert answer.json["client_certificate_accepted"] is True
    assert answer.json["client_certificate_issuer_acceptable"] is True
    assert "200" in answer.json["client_certificate_detail"]


@pytest.mark.parametrize("version", VERSIONS)
def test_one_of_another_ca_is_refused_in_http(nginx: StartNginx, world: World, version: str) -> None:
    stranger = identity(world.folder, issue("mallory", issue("Other CA", ca=True)))
    answer = probe(nginx(of(world, "on"), version), *presenting(stranger))
    assert answer.status == 1
    assert answer.json["client_certificate_accepted"] is False
    assert answer.json["client_certificate_issuer_acceptable"] is False
    assert "400" in answer.json["client_certificate_detail"]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(
    ("make", "alert"),
    [
        (lambda w: identity(w.folder, issue("mallory", issue("Other CA", ca=True))), "unknown_ca"),
        (lambda w: w.client(start=NOW - 3 * DAY, end=NOW - DAY), "certificate_expired"),
    ],
)
def test_one_that_is_refused_in_the_handshake(
    s_server: StartOpenssl, world: World, version: str, make: Callable[[World], Identity], alert: str
) -> None:
    port = s_server("-Verify", "3", version, "-CAfile", world.acceptable, "-verify_return_error")
    answer = probe(port, *presenting(make(world)))
    assert answer.status == 1
    assert answer.json["client_certificate_accepted"] is False
    assert alert in answer.json["client_certificate_detail"]


def test_the_mend_is_said(s_server: StartOpenssl, world: World) -> None:
    port = s_server("-Verify", "3", "-CAfile", world.acceptable, "-verify_return_error")
    answer = probe(port, *presenting(world.client(start=NOW - 3 * DAY, end=NOW - DAY)), text=True)
    assert "certificate CN=alice refused" in answer.stdout
    assert "fix renew it" in answer.stdout


def test_nobody_is_told_apart_where_none_is_asked_for(nginx: StartNginx, world: World) -> None:
    """Nothing was sent, so that nothing was accepted either."""
    answer = probe(nginx(of(world, "off")), *presenting(world.client()))
    assert answer.status == 0
    assert answer.json["client_certificate_accepted"] is None
    assert "not sent" in answer.json["client_certificate_detail"]


def test_an_encrypted_key_and_one_beside_its_certificate(nginx: StartNginx, world: World, tmp_path: Path) -> None:
    issued = issue("alice", world.client_ca)
    plain = identity(world.folder, issued)
    both, password = tmp_path / "both.pem", tmp_path / "password"
    locked = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    write_key(both, plain.certificate.read_bytes() + locked)
    password.write_text("secret\n")
    port = nginx(of(world, "on"))
    answer = probe(port, "--cert", both, "--key-password-file", password)
    assert answer.json["client_certificate_accepted"] is True
    refused = probe(port, "--cert", both, text=True)
    assert refused.status == 2
    assert "--key-password-file" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--key", "{certificate}"), "give --cert"),
        (("--cert", "{absent}"), "cannot read"),
        (("--cert", "{certificate}", "--key", "{absent}"), "--key: cannot read"),
        (("--cert", "{certificate}", "--key", "{other}"), "does not match"),
        (("--ca", "{other}"), "no certificate in the file"),
        (("--ca", "{absent}"), "cannot be read"),
        (("--crl", "{absent}"), "--ca"),
        (("--ca", "{certificate}", "--crl", "{absent}"), "no such file"),
        (("--fetch",), "--ca"),
        (("--expect", "maybe"), "maybe"),
        (("--path", "orders"), "does not begin with /"),
        (("--path", "/a b"), "%-encoded"),
        (("--path", "/\r\nX: y"), "%-encoded"),
        (("--server-name", ""), "no host name"),
        (("--server-name", ".a"), "no host name"),
        (("--server-name", "a b"), "no host name"),
        (("--server-name", "a\r\nX: y"), "no host name"),
        (("--server-name", "x" * 64 + ".test"), "no host name"),
    ],
)
def test_input_that_is_wrong_is_said_before_anybody_is_asked(
    world: World, arguments: tuple[str, ...], words: str
) -> None:
    alice, other = world.client(), world.client()
    files = {"certificate": alice.certificate, "other": other.key, "absent": world.folder / "absent"}
    answer = probe(1, *(argument.format(**files) for argument in arguments), text=True)
    assert answer.status == 2
    assert words in answer.stderr
    assert answer.stdout == ""


# -- the server's -----------------------------------------------------------------------------------------------------

ALL_GOOD = {"chain": "pass", "validity": "pass", "hostname": "pass"}


def test_without_trust_anchors_only_time_and_name_are_judged(nginx: StartNginx, world: World) -> None:
    """The system's CAs are never used; what was not judged says so."""
    answer = probe(nginx(of(world, "on")))
    assert list(answer.checks()) == ["chain", "validity", "hostname", "revocation"]
    assert answer.checks() == {**ALL_GOOD, "chain": "skipped", "revocation": "skipped"}
    assert all("--ca" in check["seen"] for check in answer.json["checks"] if check["result"] == "skipped")


def test_a_good_server_passes_and_its_revocation_is_asked_of_nobody(nginx: StartNginx, world: World) -> None:
    answer = probe(nginx(of(world, "on")), "--ca", world.servers)
    assert answer.checks() == {**ALL_GOOD, "revocation": "skipped"}
    assert "--crl" in answer.json["checks"][3]["seen"]
    (leaf,) = answer.json["server_chain"]
    assert (leaf["subject"], leaf["issuer"], leaf["names"]) == ("CN=a server", "CN=Server CA", [f"DNS:{NAME}"])


Make = Callable[[World], Identity]

BAD: dict[str, tuple[Make, str]] = {
    "expired": (lambda w: w.server(start=NOW - 3 * DAY, end=NOW - DAY), "validity"),
    "not valid yet": (lambda w: w.server(start=NOW + DAY, end=NOW + 3 * DAY), "validity"),
    "of another name": (lambda w: w.server("other.test"), "hostname"),
    "self-signed": (
        lambda w: identity(w.folder, issue("s", sans=[x509.DNSName(NAME)], eku=["1.3.6.1.5.5.7.3.1"])), "chain",
    ),
    "for clients": (
        lambda w: identity(w.folder, issue("s", w.server_ca, sans=[x509.DNSName(NAME)])), "chain",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_each_check_fails_by_itself_and_the_question_is_still_answered(
    nginx: StartNginx, world: World, what: str
) -> None:
    make, failing = BAD[what]
    answer = probe(nginx(of(world, "on"), server=make(world)), "--ca", world.servers)
    assert answer.status == 0
    assert [name for name, result in answer.checks().items() if result == "fail"] == [failing]
    (failed,) = [check for check in answer.json["checks"] if check["result"] == "fail"]
    assert failed["fix"]
    assert answer.json["client_certificate"] == "required"


def test_without_anchors_what_has_expired_is_seen_too(nginx: StartNginx, world: World) -> None:
    expired = world.server(start=NOW - 3 * DAY, end=NOW - DAY)
    assert probe(nginx(of(world, "on"), server=expired)).checks()["validity"] == "fail"


def test_a_weak_server_is_shown_and_not_turned_away(nginx: StartNginx, world: World) -> None:
    """A probe that OpenSSL's own policy ends would show nothing of what is to be replaced."""
    weak = world.server(key=rsa_key(1024))
    answer = probe(nginx(of(world, "on") + "ssl_ciphers DEFAULT:@SECLEVEL=0;", server=weak), "--ca", world.servers)
    assert answer.status == 0
    assert answer.json["server_chain"][0]["key"] == "RSA-1024"
    assert answer.checks()["chain"] == "fail"


@pytest.mark.parametrize(("revoked", "result"), [(False, "pass"), (True, "fail")])
def test_revocation_is_looked_up_in_crls(
    nginx: StartNginx, world: World, tmp_path: Path, revoked: bool, result: str
) -> None:
    server = world.server()
    file = tmp_path / "servers.crl"
    file.write_bytes(crl_of(world.server_ca, server.leaf.serial_number if revoked else 1))
    answer = probe(nginx(of(world, "on"), server=server), "--ca", world.servers, "--crl", file)
    assert answer.checks()["revocation"] == result


def test_a_crl_of_somebody_else_does_not_vouch(nginx: StartNginx, world: World, tmp_path: Path) -> None:
    file = tmp_path / "others.crl"
    file.write_bytes(crl_of(world.client_ca, 1))
    answer = probe(nginx(of(world, "on")), "--ca", world.servers, "--crl", file)
    assert answer.checks()["revocation"] == "fail"


def crl_of(ca: Issued, *serials: int) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.x509.subject)
        .last_update(NOW - DAY)
        .next_update(NOW + DAY)
        .add_extension(x509.CRLNumber(1), False)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER)
