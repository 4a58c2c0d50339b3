"""What the documents say is so: configuration, reasons, metrics, commands, links, and the claim about deny lists."""

import re
from pathlib import Path

import click
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from tests.integration.certificates import NOW, issue
from tests.unit.x509.build import Issued

from mtlsproxy.cli import cli
from mtlsproxy.config.model import DenyEntry
from mtlsproxy.config.parse import parse_config
from mtlsproxy.reasons import Reason
from mtlsproxy.revocation.crlset import CrlSet
from mtlsproxy.revocation.decide import RevocationPolicy
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.verdict.judge import judge
from mtlsproxy.verdict.trust import DenyList, Trust
from mtlsproxy.x509 import der
from mtlsproxy.x509.policy import Truststore

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")),
]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
REFUSALS = (ROOT / "docs" / "refusals.md").read_text()

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_the_configurations_shown_start_without_a_warning() -> None:
    """The README's is whole; that of upstreams with TLS takes the place of a part of it."""
    (whole,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (part,) = re.findall(r"```yaml\n(.*?)```", section(OPERATIONS, "TLS to the services"), re.DOTALL)
    for text in (whole, yaml.safe_dump(yaml.safe_load(whole) | yaml.safe_load(part))):
        loaded = parse_config(text.encode(), "README.md", ROOT, {})
        assert loaded.warnings == ()


def test_every_reason_is_explained_and_no_other() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", REFUSALS, re.MULTILINE)
    explained = [reason for row in rows for reason in re.findall(r"`([a-z_]+)`", row)]
    assert sorted(explained) == sorted(Reason)


def test_every_command_that_the_readme_offers_is_there() -> None:
    present = cli.list_commands(click.Context(cli))
    offered = re.findall(r"^\| `mtlsproxy ([a-z-]+)", section(README, "Two commands"), re.MULTILINE)
    assert sorted(offered) == sorted(present)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    file = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
        assert target.startswith("https://") or (file.parent / target).exists(), target


@pytest.mark.parametrize("name", ["README.md", "docs/operations.md", "docs/refusals.md"])
def test_every_metric_that_is_named_is_there(name: str) -> None:
    known = {family.name for family in Metrics().families()}
    text = (ROOT / name).read_text()
    named = re.findall(r"mtlsproxy_([a-z_]+)|\b([a-z_]+_(?:total|seconds))\b", text)
    assert named
    assert {one or other for one, other in named} <= known


# -- docs/threat-model.md, "Deny lists" -----------------------------------------------------------------------------


def _respelled(certificate: bytes) -> bytes:
    """The same certificate with the other valid spelling of its ECDSA signature: no secret is needed."""
    body, _ = der.enter(certificate, 0, len(certificate), der.SEQUENCE)
    content, algorithm, signature = der.children(certificate, body, len(certificate))
    r, s = decode_dss_signature(certificate[signature[1] + _header(certificate, signature[1]) + 1 : signature[2]])
    bits = b"\0" + encode_dss_signature(r, P256_ORDER - s)
    parts = certificate[content[1] : algorithm[2]] + b"\x03" + bytes([len(bits)]) + bits
    return b"\x30\x82" + len(parts).to_bytes(2, "big") + parts


def _header(data: bytes, at: int) -> int:
    return 2 + (data[at + 1] & 0x7F if data[at + 1] & 0x80 else 0)


@pytest.fixture(scope="module")
def ca() -> Issued:
    return issue("CA", ca=True)


def _reason(presented: bytes, ca: Issued, *deny: DenyEntry) -> Reason | None:
    trust = Trust(Truststore("t", (ca.certificate,)), RevocationPolicy("off"), CrlSet.build((), ())[0], DenyList(deny))
    return judge([presented], [trust], NOW).reason


def test_a_denied_fingerprint_is_evaded_by_the_other_spelling_of_the_signature(ca: Issued) -> None:
    leaf = issue("mallory", ca).certificate
    entry = DenyEntry(fingerprint_sha256=leaf.fingerprint_sha256)
    assert _reason(leaf.der, ca, entry) is Reason.DENIED
    assert _respelled(leaf.der) != leaf.der
    assert _reason(_respelled(leaf.der), ca, entry) is None


def test_key_and_serial_are_not_evaded(ca: Issued) -> None:
    leaf = issue("mallory", ca).certificate
    for entry in (
        DenyEntry(spki_sha256=leaf.spki_sha256),
        DenyEntry(serial=f"{leaf.serial:X}", issuer=leaf.issuer),
    ):
        for spelling in (leaf.der, _respelled(leaf.der)):
            assert _reason(spelling, ca, entry) is Reason.DENIED
