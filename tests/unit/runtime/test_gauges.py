"""What lists say of themselves in metrics: the first end where a key has several, and when each was last confirmed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding
from tests.unit.fetch.lists import parsed
from tests.unit.revocation.build import ONLY_CA, ONLY_USER, authority, distribution_point

from mtlsproxy.config.load import load_config
from mtlsproxy.devpki import create_pki
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.crlset import CrlSet
from mtlsproxy.runtime.gauges import show_material
from mtlsproxy.runtime.lists import Lists
from mtlsproxy.runtime.material import Material, load_material
from mtlsproxy.telemetry.metrics import Metrics

CA = authority("CA")
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
LABELS = ("partners", "CN=CA", CA.certificate.subject_key_id.hex())


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """A truststore with CA, and no lists."""
    folder = tmp_path_factory.mktemp("gauges")
    create_pki(folder / "pki").issue("CN=proxy.test", ["DNS:proxy.test"], "server").write(
        folder / "server.pem", folder / "server.key"
    )
    (folder / "ca.pem").write_bytes(CA.certificate.x509.public_bytes(Encoding.PEM))
    tls = {"certificates": [{"certificate": "server.pem", "private_key": "server.key"}]}
    listener = {"name": "a", "bind": "127.0.0.1:0", "tls": tls, "client_auth": {"truststores": ["partners"]}}
    config = {
        "version": 1,
        "listeners": [listener],
        "truststores": {"partners": {"trust_anchors": ["ca.pem"], "revocation": {"mode": "off"}}},
        "routes": [{"name": "all", "allow": "any", "upstream": "one"}],
        "upstreams": {"one": {"servers": [{"url": "http://127.0.0.1:1"}]}},
    }
    file = folder / "proxy.yaml"
    file.write_text(yaml.safe_dump(config))
    return load_material(load_config(file, {"HOME": str(folder)}), NOW)


def with_lists(bare: Material, *crls: Crl, files: tuple[Crl, ...] = (), read_at: datetime | None = None) -> Material:
    """crls: all that are in use; files: those of them that come from files."""
    trust = replace(bare.trusts["partners"], crls=CrlSet.build(crls, [CA.certificate])[0])
    return replace(bare, trusts={"partners": trust}, lists={"partners": Lists(trust.crls, files, (), read_at)})


def shown(metrics: Metrics, family: str) -> dict[tuple[str, ...], float]:
    return dict(getattr(metrics, family).read())


def test_of_several_scopes_the_first_end_is_shown_and_all_entries(bare: Material) -> None:
    scopes = ((ONLY_USER, 5 * HOUR, (1, 2)), (ONLY_CA, 2 * HOUR, (3,)), (None, 9 * HOUR, (4, 5, 6)))
    lists = [
        parsed(CA, *serials, at=NOW, lasts=lasts, extensions=(distribution_point(scope),) if scope else ())
        for scope, lasts, serials in scopes
    ]
    metrics = Metrics()
    for order in (lists, lists[::-1]):
        show_material(metrics, with_lists(bare, *order), NOW.timestamp())
        assert shown(metrics, "crl_next_update_timestamp_seconds") == {LABELS: (NOW + 2 * HOUR).timestamp()}
        assert shown(metrics, "crl_entries") == {LABELS: 6}


def test_the_last_success_of_a_file_is_when_it_was_read(bare: Material) -> None:
    one, metrics = parsed(CA, at=NOW), Metrics()
    material = with_lists(bare, one, files=(one,), read_at=NOW - HOUR)
    for later in (NOW, NOW + HOUR):
        show_material(metrics, material, later.timestamp())
        assert shown(metrics, "crl_last_success_timestamp_seconds") == {LABELS: (NOW - HOUR).timestamp()}


def test_the_last_success_of_what_was_fetched_stays_as_its_feed_wrote_it(bare: Material) -> None:
    metrics = Metrics()
    metrics.crl_last_success_timestamp_seconds.set(*LABELS, value=1234.0)
    show_material(metrics, with_lists(bare, parsed(CA, at=NOW)), NOW.timestamp())
    assert shown(metrics, "crl_last_success_timestamp_seconds") == {LABELS: 1234.0}


def test_lists_that_are_gone_are_shown_no_more(bare: Material) -> None:
    metrics = Metrics()
    show_material(metrics, with_lists(bare, parsed(CA, at=NOW)), NOW.timestamp())
    show_material(metrics, with_lists(bare), NOW.timestamp())
    for family in ("crl_next_update_timestamp_seconds", "crl_entries", "crl_last_success_timestamp_seconds"):
        assert shown(metrics, family) == {}
