"""Deltas where certificates and lists say that they are published (freshestCRL, RFC 5280 §4.2.1.15, §5.2.6)."""

import pytest
from cryptography import x509
from tests.integration.certificates import Identity
from tests.integration.harness import Tree, eventually
from tests.integration.sources.conftest import HOUR, Ca, Run, Site, points
from tests.integration.sources.web import Web
from tests.unit.revocation.build import delta_of, freshest

from mtlsproxy.reasons import Reason


def deltas_at(*urls: str) -> tuple[x509.ExtensionType, bool]:
    made = [x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None) for url in urls]
    return x509.FreshestCRL(made), False


def serial(client: Identity) -> int:
    return client.leaf.serial_number


@pytest.fixture(params=["certificate", "list of a point", "list of a URL"])
def named_by(request: pytest.FixtureRequest, revocation: Tree, server: Web) -> str:
    """Who says where the deltas are."""
    found = str(request.param)
    if found == "list of a URL":
        revocation["crl"] = {"sources": [server.url("/ca.crl")], "refresh": "200ms"}
    else:
        revocation["crl"] = {"distribution_points": True, "refresh": "200ms"}
    return found


class Publisher:
    """A CA that publishes a list at /ca.crl and its deltas at /delta.crl, and says so in one place."""

    def __init__(self, ca: Ca, server: Web, named_by: str) -> None:
        self.ca, self.server, self.named_by = ca, server, named_by

    def client(self, name: str) -> Identity:
        if self.named_by == "list of a URL":
            return self.ca.client(name)
        extra = [points(self.server.url("/ca.crl"))]
        if self.named_by == "certificate":
            extra.append(deltas_at(self.server.url("/delta.crl")))
        return self.ca.client(name, *extra)

    def base(self, *revoked: Identity, **options: object) -> None:
        says = () if self.named_by == "certificate" else (freshest(self.server.url("/delta.crl")),)
        self.server.give("/ca.crl", self.ca.crl(*revoked, extensions=says, **options))

    def delta(self, *revoked: Identity, base: int = 1, **options: object) -> None:
        self.server.give("/delta.crl", self.ca.crl(*revoked, extensions=(delta_of(base),), **options))


@pytest.fixture
def publisher(ca: Ca, server: Web, named_by: str) -> Publisher:
    return Publisher(ca, server, named_by)


def eventually_revoked(site: Site, client: Identity) -> None:
    eventually(lambda: site.verdict(client).reason is Reason.REVOKED)
    assert site.outcome(client) == "revoked"


# -- what a delta changes ----------------------------------------------------------------------------------------------


def test_who_is_revoked_in_the_delta_alone_is_refused_at_the_first_request(
    run: Run, tree: Tree, publisher: Publisher, server: Web
) -> None:
    alice, revoked = publisher.client("alice"), publisher.client("revoked")
    publisher.base(number=1)
    publisher.delta(revoked, number=2)
    site = run(tree)
    assert (site.outcome(revoked), site.outcome(alice)) == ("revoked", "ok")
    assert f"delta CRL number 2 from {server.url('/delta.crl')}" in site.proxy.refusal()["detail"]
    (found,) = site.truststore()["crls"]
    assert (found["number"], found["entries"]) == (1, 0)
    assert {key: found["delta"][key] for key in ("number", "entries", "source")} == {
        "number": 2,
        "entries": 1,
        "source": server.url("/delta.crl"),
    }
    assert sum(site.proxy.series("crl_refresh_total").values()) >= 2


def test_a_hold_is_lifted_by_the_delta_and_by_nothing_else(run: Run, tree: Tree, publisher: Publisher) -> None:
    held, lifted, lost = (publisher.client(name) for name in ("held", "lifted", "lost"))
    publisher.base(lost, number=1, held=(serial(held), serial(lifted)))
    publisher.delta(number=2, lifted=(serial(lifted), serial(lost)))
    site = run(tree)
    assert [site.outcome(client) for client in (lifted, held, lost)] == ["ok", "revoked", "revoked"]


@pytest.mark.parametrize(
    ("held", "outcome", "asked"), [(True, "ok", 1), (False, "revoked", 0)], ids=["hold", "for good"]
)
def test_about_a_hold_the_delta_is_asked_though_a_list_is_here_that_has_it(
    run: Run, tree: Tree, ca: Ca, revocation: Tree, server: Web, held: bool, outcome: str, asked: int
) -> None:
    """What is revoked for good is refused at once; of a hold the certificate's delta may say that it was lifted."""
    alice = ca.client("alice", deltas_at(server.url("/delta.crl")))
    revocation["crl"] = {"sources": [server.url("/ca.crl")], "distribution_points": True}
    server.give("/ca.crl", ca.crl(*([] if held else [alice]), number=1, held=(serial(alice),) if held else ()))
    server.give("/delta.crl", ca.crl(number=2, lifted=(serial(alice),), extensions=(delta_of(1),)))
    assert run(tree).outcome(alice) == outcome
    assert server.paths().count("/delta.crl") == asked


def test_an_idle_connection_is_closed_when_a_new_delta_revokes_its_client(
    run: Run, tree: Tree, publisher: Publisher
) -> None:
    alice, carol = publisher.client("alice"), publisher.client("carol")
    publisher.base(number=1)
    publisher.delta(number=2)
    site = run(tree)
    with site.connect(alice) as hers, site.connect(carol) as others:
        assert (hers.get().status, others.get().status) == (200, 200)
        publisher.delta(alice, number=3)
        assert hers.ended()
        assert others.get().status == 200
    assert site.outcome(alice) == "revoked"


# -- what it must not do -----------------------------------------------------------------------------------------------


def test_a_delta_that_was_replaced_does_not_come_back(run: Run, tree: Tree, publisher: Publisher) -> None:
    alice = publisher.client("alice")
    publisher.base(number=1)
    publisher.delta(alice, number=3)
    site = run(tree)
    assert site.outcome(alice) == "revoked"
    publisher.delta(number=2)
    eventually(lambda: site.said("(rollback)"))
    assert site.outcome(alice) == "revoked"


def test_a_delta_of_a_later_base_lifts_nothing_and_what_it_revokes_is_revoked(
    run: Run, tree: Tree, publisher: Publisher
) -> None:
    held, alice, carol = (publisher.client(name) for name in ("held", "alice", "carol"))
    publisher.base(number=1, held=(serial(held),))
    publisher.delta(alice, base=5, number=6, lifted=(serial(held),))
    site = run(tree)
    assert [site.outcome(client) for client in (held, alice, carol)] == ["revoked", "revoked", "ok"]
    eventually(lambda: site.said("fits no complete CRL that is known"))


@pytest.mark.parametrize("wrong", ["another CA's", "garbage", "absent", "of the future"])
def test_without_a_usable_delta_the_list_answers_for_itself(
    run: Run, tree: Tree, publisher: Publisher, ca: Ca, server: Web, wrong: str
) -> None:
    alice, revoked = publisher.client("alice"), publisher.client("revoked")
    publisher.base(revoked, number=1)
    if wrong == "another CA's":
        server.give("/delta.crl", Ca(ca.folder, "Other CA").crl(alice, number=2, extensions=(delta_of(1),)))
    elif wrong == "garbage":
        server.give("/delta.crl", b"<html>log in first</html>")
    elif wrong == "of the future":
        publisher.delta(alice, number=2, age=-HOUR)
    site = run(tree)
    assert (site.outcome(alice), site.outcome(revoked)) == ("ok", "revoked")
    eventually(lambda: [line for line in site.said("; next try at ") if "/delta.crl" in line])


# -- where it may be ---------------------------------------------------------------------------------------------------


def test_a_delta_is_asked_at_allowed_hosts_alone(
    run: Run, tree: Tree, publisher: Publisher, revocation: Tree, server: Web
) -> None:
    """Also where the list that names it comes from a URL of the configuration, whose host needs no permission."""
    revocation["fetch"]["allowed_hosts"] = []
    if publisher.named_by != "list of a URL":
        revocation["crl"]["sources"] = [server.url("/ca.crl")]
        revocation["crl"]["distribution_points"] = publisher.named_by == "certificate"
    alice = publisher.client("alice")
    publisher.base(number=1)
    publisher.delta(alice, number=2)
    site = run(tree)
    assert site.outcome(alice) == "ok"
    eventually(lambda: [line for line in site.said("allowed_hosts") if "/delta.crl" in line])
    assert "/delta.crl" not in server.paths()


def test_certificates_name_deltas_to_nobody_who_does_not_ask_distribution_points(
    run: Run, tree: Tree, ca: Ca, revocation: Tree, server: Web
) -> None:
    alice = ca.client("alice", deltas_at(server.url("/delta.crl")))
    revocation["crl"] = {"sources": [server.url("/ca.crl")]}
    server.give("/ca.crl", ca.crl(number=1))
    server.give("/delta.crl", ca.crl(alice, number=2, extensions=(delta_of(1),)))
    assert run(tree).outcome(alice) == "ok"
    assert server.paths() == ["/ca.crl"]
