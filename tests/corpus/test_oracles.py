"""Our verdict against two independent validators: OpenSSL's command line and cryptography's ClientVerifier.

Chains are honest but for named faults. Where an oracle judges one differently, STRICTER and LAXER say why; a
difference that is not listed fails, and so does a listed one that is no more.
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.unit.x509.build import DAY, NOW, Issued, issue, key_usage, new_key

from mtlsproxy.x509.certificate import Certificate, parse_certificate
from mtlsproxy.x509.policy import CLIENT_AUTH, SERVER_AUTH, Policy, Truststore
from mtlsproxy.x509.validate import Refused, validate

ANY = "2.5.29.37.0"
HOUR = timedelta(hours=1)
KINDS = ("P-256", "P-384", "P-521", "RSA-2048", "Ed25519", "Ed448")
KEYS = {kind: [new_key(kind) for _ in range(4)] for kind in KINDS}
OPENSSL = shutil.which("openssl")


@dataclass
class Plan:
    """What to issue, from the root (level 0) down to the leaf, and what to do to it afterwards."""

    kind: str
    levels: list[dict[str, Any]]
    tampered: set[int] = field(default_factory=set)
    not_sent: set[int] = field(default_factory=set)
    other_root: bool = False


@dataclass(frozen=True)
class Chain:
    anchor: Certificate
    intermediates: tuple[Certificate, ...]
    leaf: Certificate


def plan(kind: str, depth: int) -> Plan:
    return Plan(kind, [{"ca": level <= depth} for level in range(depth + 2)])


def make(what: Plan) -> Chain:
    issued: list[Issued] = []
    for level, fields in enumerate(what.levels):
        names = [] if fields["ca"] else [x509.DNSName("client.example.com"), x509.RFC822Name("a@example.com")]
        key = KEYS[what.kind][level]
        defaults: dict[str, Any] = {"key": key, "sans": names, **fields}
        issued.append(issue(f"level {level}", issued[-1] if issued else None, **defaults))
    found = [_tampered(one.certificate) if n in what.tampered else one.certificate for n, one in enumerate(issued)]
    sent = [certificate for n, certificate in enumerate(found[1:-1], 1) if n not in what.not_sent]
    anchor = issue("level 0", ca=True).certificate if what.other_root else found[0]
    return Chain(anchor, tuple(sent), found[-1])


def _tampered(certificate: Certificate) -> Certificate:
    der = bytearray(certificate.der)
    der[-1] ^= 1
    return parse_certificate(bytes(der))


@dataclass(frozen=True)
class Fault:
    """where: root, ca (the lowest) or leaf. fields: for `issue`. after: what happens to the finished plan."""

    where: str
    fields: dict[str, Any] = field(default_factory=dict)
    after: Callable[[Plan, int], None] | None = None

    def level(self, what: Plan) -> int:
        return {"root": 0, "ca": len(what.levels) - 2, "leaf": len(what.levels) - 1}[self.where]

    def apply(self, what: Plan) -> None:
        what.levels[self.level(what)].update(self.fields)
        if self.after is not None:
            self.after(what, self.level(what))


def _set(where: str, **fields: Any) -> Fault:
    return Fault(where, fields)


def _unknown_extension(where: str) -> Fault:
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
    return _set(where, extra=[(extension, True)])


_OTHER_KEY_ID = (x509.AuthorityKeyIdentifier(b"someone else", None, None), False)

FAULTS: dict[str, Fault] = {
    "nothing": Fault("leaf"),
    "leaf expired": _set("leaf", start=NOW - DAY, end=NOW - HOUR),
    "leaf not yet valid": _set("leaf", start=NOW + HOUR, end=NOW + DAY),
    "ca expired": _set("ca", start=NOW - DAY, end=NOW - HOUR),
    "root expired": _set("root", start=NOW - DAY, end=NOW - HOUR),
    "root not yet valid": _set("root", start=NOW + HOUR, end=NOW + DAY),
    "leaf without EKU": _set("leaf", eku=None),
    "leaf for servers": _set("leaf", eku=[SERVER_AUTH]),
    "leaf for both": _set("leaf", eku=[SERVER_AUTH, CLIENT_AUTH]),
    "leaf for anything": _set("leaf", eku=[ANY]),
    "ca for servers": _set("ca", eku=[SERVER_AUTH]),
    "ca for clients": _set("ca", eku=[CLIENT_AUTH]),
    "ca for anything": _set("ca", eku=[ANY]),
    "root for servers": _set("root", eku=[SERVER_AUTH]),
    "leaf without key usage": _set("leaf", usage=None),
    "leaf for encipherment": _set("leaf", usage=key_usage("key_encipherment")),
    "leaf for key agreement": _set("leaf", usage=key_usage("key_agreement")),
    "leaf that may sign certificates": _set("leaf", usage=key_usage("digital_signature", "key_cert_sign")),
    "leaf that is a CA": _set("leaf", basic=x509.BasicConstraints(True, None)),
    "leaf without basicConstraints": _set("leaf", basic=None),
    "ca without basicConstraints": _set("ca", basic=None),
    "ca that is none": _set("ca", basic=x509.BasicConstraints(False, None)),
    "ca that may not sign": _set("ca", usage=key_usage("crl_sign")),
    "ca without key usage": _set("ca", usage=None),
    "root without key usage": _set("root", usage=None),
    "root that is no CA": _set("root", basic=x509.BasicConstraints(False, None)),
    "root with path length 0": _set("root", path_length=0),
    "root with path length 1": _set("root", path_length=1),
    "ca with path length 0": _set("ca", path_length=0),
    "leaf tampered": Fault("leaf", after=lambda what, level: what.tampered.add(level)),
    "ca tampered": Fault("ca", after=lambda what, level: what.tampered.add(level)),
    "ca not sent": Fault("ca", after=lambda what, level: what.not_sent.add(level)),
    "another root of that name": Fault("root", after=lambda what, _: setattr(what, "other_root", True)),
    "leaf with a wrong key identifier": _set("leaf", identifiers=False, extra=[_OTHER_KEY_ID]),
    "leaf without key identifiers": _set("leaf", identifiers=False),
    "leaf without alternative names": _set("leaf", sans=[]),
    "leaf with an unknown critical extension": _unknown_extension("leaf"),
    "ca with an unknown critical extension": _unknown_extension("ca"),
    "root permits the name": _set("root", permitted=[x509.DNSName("example.com")]),
    "root permits another name": _set("root", permitted=[x509.DNSName("example.org")]),
    "root excludes the name": _set("root", excluded=[x509.DNSName("client.example.com")]),
    "ca excludes another name": _set("ca", excluded=[x509.DNSName("other.example.com")]),
    "root permits the mail": _set("root", permitted=[x509.RFC822Name("example.com")]),
    "root permits another mail": _set("root", permitted=[x509.RFC822Name("example.org")]),
    "root constrains the form of another name": _set("root", permitted=[x509.UniformResourceIdentifier("example.com")]),
}
"""Name → what it does to a plan. Some are none, and every validator must take them."""

_CABF = "default extension policies follow the Web PKI; internal CAs leave it out (security.md)"
STRICTER = {
    "openssl": {"leaf with a wrong key identifier": "takes it for more than the hint that RFC 5280 §4.2.1.1 makes it"},
    "cryptography": {
        "ca without key usage": _CABF,
        "root without key usage": _CABF,
        "leaf without key identifiers": _CABF,
        "leaf without alternative names": _CABF,
    },
}
"""Oracle → fault → why it refuses what we accept."""
LAXER = {
    "openssl": {
        "leaf for key agreement": "takes keyAgreement for enough; interfaces.md demands digitalSignature",
        "leaf that may sign certificates": "RFC 5280 §4.2.1.9 forbids keyCertSign without cA",
        "leaf that is a CA": "interfaces.md: ca_as_leaf",
    },
    "cryptography": {
        "ca for anything": "anyExtendedKeyUsage counts here only with allow_any, as OpenSSL has it",
        "leaf for encipherment": "does not look at the leaf's key usage for signing",
        "leaf for key agreement": "does not look at the leaf's key usage for signing",
    },
}
"""Oracle → fault → why it accepts what we refuse."""
_ROOT_USAGES = {"root without key usage", "ca without key usage", "ca that may not sign"}
NO_EDWARDS = "cryptography"  # `Forbidden public key algorithm` for any Ed25519 or Ed448 CA (security.md)


def ours(chain: Chain) -> bool:
    """With an absent EKU allowed, as both oracles have it; the default refuses it (eku_missing)."""
    store = Truststore("oracle", (chain.anchor,), (), Policy(allow_absent_eku=True))
    return not isinstance(validate(chain.leaf, chain.intermediates, store, NOW), Refused)


def openssl(chain: Chain, folder: Path) -> bool:
    assert OPENSSL is not None
    files = {"anchor": [chain.anchor], "sent": chain.intermediates, "leaf": [chain.leaf]}
    for name, certificates in files.items():
        (folder / name).write_bytes(b"".join(c.x509.public_bytes(Encoding.PEM) for c in certificates))
    sent = ["-untrusted", str(folder / "sent")] if chain.intermediates else []
    command = [OPENSSL, "verify", "-purpose", "sslclient", "-attime", str(int(NOW.timestamp())), "-no-CApath"]
    command += ["-no-CAstore", "-partial_chain", "-CAfile", str(folder / "anchor"), *sent, str(folder / "leaf")]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


def client_verifier(chain: Chain) -> bool:
    verifier = PolicyBuilder().store(Store([chain.anchor.x509])).time(NOW).max_chain_depth(5).build_client_verifier()
    try:
        verifier.verify(chain.leaf.x509, [c.x509 for c in chain.intermediates])
    except VerificationError:
        return False
    return True


def build(kind: str, depth: int, faults: list[str]) -> Chain:
    what = plan(kind, depth)
    for name in faults:
        FAULTS[name].apply(what)
    return make(what)


def asked(oracle: str, chain: Chain, folder: Path) -> bool:
    return openssl(chain, folder) if oracle == "openssl" else client_verifier(chain)


def expected(oracle: str, kind: str, depth: int, faults: list[str]) -> bool:
    """What the oracle will say, from what we say and the known differences."""
    if STRICTER[oracle].keys() & set(faults) or (oracle == NO_EDWARDS and kind.startswith("Ed")):
        return False
    overlooked = set(LAXER[oracle])
    if oracle == "openssl" and depth == 0 and not _ROOT_USAGES & set(faults):
        # The topmost certificate is a CA to OpenSSL when its key usage says keyCertSign, without basicConstraints too.
        overlooked.add("ca without basicConstraints")
    return ours(build(kind, depth, [name for name in faults if name not in overlooked]))


ORACLES = [
    pytest.param("openssl", marks=pytest.mark.skipif(OPENSSL is None, reason="no openssl command on this machine")),
    "cryptography",
]


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("depth", [0, 1])
def test_every_fault_alone_is_judged_as_the_oracle_does_or_as_the_table_says(
    oracle: str, depth: int, tmp_path: Path
) -> None:
    verdicts = {name: asked(oracle, build("P-256", depth, [name]), tmp_path) for name in FAULTS}
    assert verdicts == {name: expected(oracle, "P-256", depth, [name]) for name in FAULTS}
    for table, verdict in ((STRICTER, False), (LAXER, True)):
        for name in table[oracle]:
            assert ours(build("P-256", depth, [name])) is not verdict, f"{name}: no difference any more"


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("kind", KINDS)
def test_honest_chains_of_every_key_are_judged_alike(oracle: str, kind: str, tmp_path: Path) -> None:
    chain = build(kind, 2, [])
    assert ours(chain)
    assert asked(oracle, chain, tmp_path) == expected(oracle, kind, 2, [])


@pytest.mark.parametrize("oracle", ORACLES)
@given(
    kind=st.sampled_from(KINDS),
    depth=st.integers(0, 2),
    faults=st.lists(st.sampled_from(sorted(FAULTS)), max_size=3, unique=True),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chains_with_several_faults_are_judged_alike(
    oracle: str, kind: str, depth: int, faults: list[str], tmp_path: Path
) -> None:
    """Faults that write the same field of the same certificate would hide one another: such chains are left out."""
    what = plan(kind, depth)
    written = [(FAULTS[name].level(what), key) for name in faults for key in FAULTS[name].fields]
    assume(len(written) == len(set(written)))
    assert asked(oracle, build(kind, depth, faults), tmp_path) == expected(oracle, kind, depth, faults)
