"""Attacks by what is presented: certificates that cost more to look at than to make, mostly of strangers."""

import hashlib
import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.integration.certificates import Identity, identity, issue, names
from tests.integration.clients import V12, V13, Response, alert, client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree
from tests.integration.refusals import assert_nobody_left, assert_nothing_forwarded
from tests.integration.upstream import RecordingUpstream
from tests.unit.x509.build import Issued, dn, new_key, rsa_key

from mtlsproxy.reasons import Reason
from mtlsproxy.verdict import judge
from mtlsproxy.verdict.judge import MAX_PRESENTED, MAX_PRESENTED_SIZE
from mtlsproxy.x509 import building, signatures
from mtlsproxy.x509.certificate import MAX_RSA_EXPONENT_BITS, Certificate, parse_certificate
from mtlsproxy.x509.path import Link

HUGE = names(*["DNS:a"] * 20_000)


@pytest.fixture(scope="module")
def rogue() -> Issued:
    """A CA that nobody trusts."""
    return issue("Rogue CA", ca=True)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every certificate that was parsed to be judged."""
    sizes: list[int] = []
    real = parse_certificate

    def noted(der: bytes) -> Certificate:
        sizes.append(len(der))
        return real(der)

    monkeypatch.setattr(judge, "parse_certificate", noted)
    return sizes


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The key of every signature verification."""
    keys: list[object] = []
    real = signatures._verify

    def noted(certificate: Certificate, issuer: Certificate) -> Link:
        keys.append(issuer.public_key)
        return real(certificate, issuer)

    monkeypatch.setattr(signatures, "_verify", noted)
    return keys


def answer_to(proxy: RunningProxy, material: Material, who: Identity) -> Response:
    with tls(proxy.port(), client_context(material.root, who)) as client:
        return client.get()


@pytest.mark.parametrize("version", [V12, V13])
def test_a_huge_certificate_of_a_stranger_is_not_looked_at(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, rogue: Issued, parsed: list[int],
    version: ssl.TLSVersion,
) -> None:  # fmt: skip
    """Sixty kilobytes with twenty thousand names: refused by its size, named by its fingerprint alone."""
    proxy = start(config)
    parsed.clear()
    huge = identity(material.folder, issue("huge", rogue, sans=HUGE))
    assert alert(proxy.port(), client_context(material.root, huge, version)) == "unknown_ca"
    line = proxy.refusal()
    assert (line["reason"], line["subject"], line["san"]) == (Reason.MALFORMED_CERTIFICATE, None, None)
    assert line["fingerprint"] == hashlib.sha256(huge.der).hexdigest()
    assert f"a certificate of {len(huge.der)} bytes presented" in line["detail"]
    assert parsed == []
    assert_nobody_left(proxy)
    assert_nothing_forwarded(upstream)


def test_a_huge_certificate_of_a_trusted_ca_is_refused_too(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, parsed: list[int]
) -> None:
    proxy = start(config)
    parsed.clear()
    answer = answer_to(proxy, material, identity(material.folder, issue("huge", material.ca, sans=HUGE)))
    assert (answer.status, answer.problem["reason"]) == (403, Reason.MALFORMED_CERTIFICATE)
    assert parsed == []
    assert_nothing_forwarded(upstream)


def test_a_large_certificate_is_still_a_certificate(config: Tree, material: Material, start: Start) -> None:
    """Hundreds of names, near the limit."""
    large = issue("large", material.ca, sans=names(*[f"DNS:{number:04}.example" for number in range(900)]))
    assert MAX_PRESENTED_SIZE * 3 // 4 < len(large.certificate.der) < MAX_PRESENTED_SIZE
    assert answer_to(start(config), material, identity(material.folder, large)).status == 200


@pytest.mark.parametrize(("others", "status"), [(MAX_PRESENTED - 1, 200), (MAX_PRESENTED, 403)])
def test_only_so_many_certificates_are_looked_at(
    config: Tree, material: Material, start: Start, parsed: list[int], others: int, status: int
) -> None:
    """A leaf that is fine, and company that leads nowhere: as many as are allowed do no harm, one more is refused."""
    proxy = start(config)
    parsed.clear()
    company = [issue(f"company {number}", ca=True, key=rsa_key()) for number in range(others)]
    who = identity(material.folder, issue("alice", material.ca), *company)
    answer = answer_to(proxy, material, who)
    assert answer.status == status
    if status == 403:
        assert answer.problem["reason"] == Reason.MALFORMED_CERTIFICATE
        assert parsed == []


def test_many_strangers_certificates_are_not_looked_at(
    config: Tree, material: Material, start: Start, rogue: Issued, parsed: list[int]
) -> None:
    proxy = start(config)
    parsed.clear()
    crowd = [issue("Rogue CA", ca=True) for _ in range(MAX_PRESENTED)]
    context = client_context(material.root, identity(material.folder, issue("mallory", rogue), *crowd))
    assert alert(proxy.port(), context) == "unknown_ca"
    assert proxy.refusal()["reason"] == Reason.MALFORMED_CERTIFICATE
    assert parsed == []


# -- keys that take long to verify with --------------------------------------------------------------------------------


def slow_key(bits: int) -> rsa.RSAPrivateKey:
    """An RSA key that works, with a public exponent of `bits` bits."""
    base = rsa_key().private_numbers()
    totient = (base.p - 1) * (base.q - 1)
    exponent = (1 << (bits - 1)) + 1
    while True:
        try:
            secret = pow(exponent, -1, totient)
            break
        except ValueError:
            exponent += 2
    numbers = rsa.RSAPrivateNumbers(
        base.p,
        base.q,
        secret,
        secret % (base.p - 1),
        secret % (base.q - 1),
        base.iqmp,
        rsa.RSAPublicNumbers(exponent, base.p * base.q),
    )
    return numbers.private_key()


@pytest.mark.parametrize(
    ("bits", "status"), [(17, 200), (MAX_RSA_EXPONENT_BITS, 200), (MAX_RSA_EXPONENT_BITS + 1, 403), (2000, 403)]
)
def test_a_clients_own_key_has_an_ordinary_exponent(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, bits: int, status: int
) -> None:
    """Certified by a trusted CA, and its possession proved: a key that takes long to verify with is a weak one."""
    who = identity(material.folder, issue("alice", material.ca, key=slow_key(bits)))
    answer = answer_to(start(config), material, who)
    assert answer.status == status
    if status == 403:
        assert answer.problem["reason"] == Reason.WEAK_KEY
        assert_nothing_forwarded(upstream)


def test_issuers_with_endless_exponents_are_not_verified_with(
    config: Tree, material: Material, start: Start, verified: list[object]
) -> None:
    """A stranger's leaf, and as many namesakes of its issuer as are looked at."""
    proxy = start(config)
    verified.clear()
    maker = issue("Evil", ca=True, key=rsa_key())
    namesakes = [
        issue("Evil", ca=True, key=slow_key(2000), issuer_name=dn("Evil above"), identifiers=False)
        for _ in range(MAX_PRESENTED - 1)
    ]
    leaf = issue("mallory", maker, identifiers=False)
    context = client_context(material.root, identity(material.folder, leaf, *namesakes))
    assert alert(proxy.port(), context) == "unknown_ca"
    assert proxy.refusal()["reason"] == Reason.UNTRUSTED_ISSUER
    assert [key for key in verified if isinstance(key, rsa.RSAPublicKey)] == []


def test_namesakes_of_the_issuer_cost_a_bounded_number_of_verifications(
    config: Tree, material: Material, start: Start, verified: list[object]
) -> None:
    """Ordinary keys, each of which might have signed: a budget ends the search."""
    proxy = start(config)
    verified.clear()
    key = new_key()
    namesakes = [issue("Evil", ca=True, key=new_key(), identifiers=False) for _ in range(MAX_PRESENTED - 1)]
    leaf = issue("mallory", Issued(namesakes[0].certificate, key), identifiers=False)
    context = client_context(material.root, identity(material.folder, leaf, *namesakes))
    assert alert(proxy.port(), context) == "unknown_ca"
    assert proxy.refusal()["reason"] in (Reason.UNTRUSTED_ISSUER, Reason.BAD_SIGNATURE)
    assert 0 < len(verified) <= building.MAX_SIGNATURES
