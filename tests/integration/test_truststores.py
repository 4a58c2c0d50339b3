"""Which truststore vouches for whom: several of a listener, anchors of all kinds, intermediates, and their policies."""

import ssl
from collections.abc import Sequence

import pytest
from tests.integration.certificates import anchor_file, identity, issue, names
from tests.integration.clients import VERSIONS, alert, client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree
from tests.integration.upstream import RecordingUpstream
from tests.unit.x509.build import Issued, key_usage

from mtlsproxy.reasons import Reason


def trust(config: Tree, material: Material, anchors: Sequence[Issued], intermediates: Sequence[Issued]) -> Tree:
    """`config` with these in the truststore `partners`."""
    config["truststores"]["partners"] |= {
        "trust_anchors": [str(anchor_file(material.folder, *anchors))],
        "intermediates": [str(anchor_file(material.folder, *intermediates))],
    }
    return config


def judged(proxy: RunningProxy, chain: Sequence[Issued]) -> tuple[Reason | None, tuple[str, ...]]:
    """What our own gate says of a chain: the reason that it is refused for, the truststores that vouch."""
    rules = proxy.proxy.snapshot.listeners["internal"].rules
    verdict = proxy.call(lambda: rules.judge(tuple(issued.certificate.der for issued in chain)))
    return verdict.reason, verdict.truststores


# -- several truststores, intermediates --------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["first", "second"])
def test_any_truststore_of_the_listener_may_vouch(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, which: str
) -> None:
    """The upstream is told which one did."""
    cas = {"first": material.ca, "second": issue("Second CA", ca=True)}
    config["truststores"] = {
        name: {"trust_anchors": [str(anchor_file(material.folder, ca))], "revocation": {"mode": "off"}}
        for name, ca in cas.items()
    }
    config["listeners"][0]["client_auth"]["truststores"] = ["first", "second"]
    proxy = start(config)
    client = identity(material.folder, issue("alice", cas[which]))
    with tls(proxy.port(), client_context(material.root, client)) as connection:
        assert connection.get().status == 200
    assert upstream.requests[0].values("X-Client-Truststore") == [which]


def test_of_several_that_vouch_the_first_is_named(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """In the listener's order; a route's own order goes before it."""
    config["truststores"]["twin"] = config["truststores"]["partners"]
    config["listeners"][0]["client_auth"]["truststores"] = ["twin", "partners"]
    config["routes"].insert(0, config["routes"][0] | {"name": "own", "paths": ["/own"], "truststores": ["partners"]})
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, material.client())) as connection:
        connection.get("/")
        connection.get("/own")
    assert [recorded.values("X-Client-Truststore") for recorded in upstream.requests] == [["twin"], ["partners"]]


@pytest.mark.parametrize("partial", [False, True], ids=["root anchor", "partial anchor"])
@pytest.mark.parametrize("version", VERSIONS)
def test_intermediates_of_the_configuration(
    config: Tree, material: Material, start: Start, partial: bool, version: str
) -> None:
    """A client that sends its leaf alone is verified with the `intermediates` of the truststore."""
    anchor = issue("Partial CA", material.ca, ca=True) if partial else material.ca
    sub = issue("Sub CA", anchor, ca=True)
    trust(config, material, [anchor], [sub])
    proxy = start(config)
    alone = identity(material.folder, issue("alone", sub))
    with tls(proxy.port(), client_context(material.root, alone, VERSIONS[version])) as connection:
        assert connection.get().status == 200


def test_two_intermediates_between_a_partial_anchor_and_a_client(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """The upper one from the configuration, the lower one from the client; without the lower one nobody vouches."""
    anchor = issue("Partial CA", material.ca, ca=True)
    upper = issue("Upper CA", anchor, ca=True)
    lower = issue("Lower CA", upper, ca=True)
    leaf = issue("alice", lower)
    proxy = start(trust(config, material, [anchor], [upper]))
    with tls(proxy.port(), client_context(material.root, identity(material.folder, leaf, lower))) as connection:
        assert connection.get().status == 200
    assert alert(proxy.port(), client_context(material.root, identity(material.folder, leaf))) == "unknown_ca"
    assert len(upstream.requests) == 1


def test_an_intermediate_of_the_configuration_is_no_harm_to_who_sends_it_too(
    config: Tree, material: Material, start: Start
) -> None:
    """The lower of two is configured, the client sends both: OpenSSL prefers its store, which leads nowhere."""
    upper = issue("Upper CA", material.ca, ca=True)
    lower = issue("Lower CA", upper, ca=True)
    proxy = start(trust(config, material, [material.ca], [lower]))
    whole = identity(material.folder, issue("alice", lower), lower, upper)
    with tls(proxy.port(), client_context(material.root, whole)) as connection:
        assert connection.get().status == 200


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("partial", [False, True], ids=["root anchor", "partial anchor"])
def test_a_self_signed_intermediate_is_no_trust_anchor(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, partial: bool, version: str
) -> None:
    """Whoever gets a root of theirs among `intermediates` is vouched for by nobody, at either gate: OpenSSL's, whose
    store trusts whatever self-signed certificate is in it, and ours, shown the same chains without OpenSSL."""
    rogue = issue("Rogue CA", ca=True)
    below = issue("Below rogue", rogue, ca=True)
    anchor = issue("Partial CA", material.ca, ca=True) if partial else material.ca
    proxy = start(trust(config, material, [anchor], [rogue, below]))
    usage = key_usage("digital_signature", "key_cert_sign")
    itself = issue("Itself", rogue, ca=True, usage=usage)
    for chain in ((issue("a", rogue),), (issue("b", rogue), rogue), (issue("c", below), below, rogue), (itself, rogue)):
        context = client_context(material.root, identity(material.folder, *chain), VERSIONS[version])
        assert alert(proxy.port(), context) == "unknown_ca"
        assert judged(proxy, chain) == (Reason.UNTRUSTED_ISSUER, ())
    good = issue("good", anchor)
    assert judged(proxy, (good,)) == (None, ("partners",))
    assert upstream.untouched


def test_a_root_that_one_truststore_trusts_is_no_anchor_of_another(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """OpenSSL's store is the whole listener's, so it lets the client in: ours says which truststore vouches."""
    other = issue("Other CA", ca=True)
    trust(config, material, [material.ca], [other])
    config["truststores"]["other"] = {
        "trust_anchors": [str(anchor_file(material.folder, other))],
        "revocation": {"mode": "off"},
    }
    config["listeners"][0]["client_auth"]["truststores"] = ["partners", "other"]
    config["routes"].insert(0, config["routes"][0] | {"name": "own", "paths": ["/own"], "truststores": ["partners"]})
    proxy = start(config)
    client = identity(material.folder, issue("alice", other), other)
    with tls(proxy.port(), client_context(material.root, client)) as connection:
        assert connection.get("/").status == 200
        assert connection.get("/own").problem["reason"] == Reason.TRUSTSTORE_MISMATCH
    assert [asked.values("X-Client-Truststore") for asked in upstream.requests] == [["other"]]


def test_an_intermediate_vouches_for_nobody(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """An intermediate whose issuer is not a trust anchor here leads nowhere, partial anchors or not."""
    stray = issue("Stray CA", issue("Unknown CA", ca=True), ca=True)
    partial = issue("Partial CA", material.ca, ca=True)
    config["truststores"]["partners"] |= {
        "trust_anchors": [str(anchor_file(material.folder, partial))],
        "intermediates": [str(anchor_file(material.folder, stray))],
    }
    proxy = start(config)
    for chain in ((issue("a", stray),), (issue("b", stray), stray), (issue("c", material.ca), material.ca)):
        context = client_context(material.root, identity(material.folder, *chain))
        assert alert(proxy.port(), context) == "unknown_ca"
    assert upstream.untouched


def test_a_partial_anchor_trusts_only_what_is_below_it(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """Accepted: a client of the anchor itself. Its sibling CA under the same root is refused (above: the root too)."""
    partial, sibling = issue("Partial CA", material.ca, ca=True), issue("Sibling CA", material.ca, ca=True)
    config["truststores"]["partners"]["trust_anchors"] = [str(anchor_file(material.folder, partial))]
    proxy = start(config)
    for chain in ((issue("a", partial),), (issue("b", partial), partial), (issue("c", partial), partial, material.ca)):
        with tls(proxy.port(), client_context(material.root, identity(material.folder, *chain))) as connection:
            assert connection.get().status == 200
    refused = client_context(material.root, identity(material.folder, issue("d", sibling), sibling, material.ca))
    assert alert(proxy.port(), refused) == "unknown_ca"
    assert len(upstream.requests) == 3


# -- policies of a truststore, accepted --------------------------------------------------------------------------------

ANY_EKU, EMAIL_EKU, SERVER_EKU, CLIENT_EKU = "2.5.29.37.0", *(f"1.3.6.1.5.5.7.3.{number}" for number in (4, 1, 2))

POLICIES = {
    "absent EKU": ({"extended_key_usage": {"allow_absent": True}}, {"eku": None}),
    "any EKU": ({"extended_key_usage": {"allow_any": True}}, {"eku": [ANY_EKU]}),
    "another EKU": ({"extended_key_usage": {"require": ["emailProtection"]}}, {"eku": [EMAIL_EKU]}),
    "server EKU": ({"extended_key_usage": {"require": ["serverAuth"]}}, {"eku": [SERVER_EKU]}),
    "two EKUs": ({"extended_key_usage": {"require": ["clientAuth", EMAIL_EKU]}}, {"eku": [CLIENT_EKU, EMAIL_EKU]}),
    "policy": ({"certificate_policies": ["1.2.3.5", "1.2.3.4"]}, {"policies": ["1.2.3.4"]}),
    "SVID": ({"spiffe_trust_domain": "example.org"}, {"sans": names("URI:spiffe://example.org/ns/a")}),
}
"""What a truststore says beyond the default, and the client that it then accepts."""


@pytest.mark.parametrize("partial", [False, True], ids=["root anchor", "partial anchor"])
@pytest.mark.parametrize(("settings", "what"), POLICIES.values(), ids=POLICIES)
def test_what_a_truststore_asks_for_is_accepted(
    config: Tree, material: Material, start: Start, settings: Tree, what: Tree, partial: bool
) -> None:
    """By both gates, also where OpenSSL's own purpose would refuse it; and a client without it is refused."""
    anchor = issue("Partial CA", material.ca, ca=True) if partial else material.ca
    config["truststores"]["partners"] |= settings | {"trust_anchors": [str(anchor_file(material.folder, anchor))]}
    proxy = start(config)
    good = identity(material.folder, issue("good", anchor, **what))
    with tls(proxy.port(), client_context(material.root, good)) as connection:
        assert connection.get().status == 200
    plain = identity(material.folder, issue("plain", anchor, eku=[CLIENT_EKU]))
    lenient = "allow_absent" in str(settings) or "allow_any" in str(settings)
    try:
        with tls(proxy.port(), client_context(material.root, plain)) as connection:
            assert connection.get().status == (200 if lenient else 403)
    except ssl.SSLError:
        assert not lenient
