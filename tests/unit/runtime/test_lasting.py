"""What status says of lists can be said in JSON, whatever their CAs have written into them."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from tests.unit.fetch.lists import parsed
from tests.unit.revocation.build import authority

from mtlsproxy.revocation.crlset import CrlSet
from mtlsproxy.revocation.policy import RevocationPolicy
from mtlsproxy.runtime.lasting import lists_of
from mtlsproxy.verdict.trust import DenyList, Trust
from mtlsproxy.x509.policy import Policy, Truststore

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
ROOT = authority("Root")


@pytest.mark.parametrize(
    ("number", "shown"), [(None, None), (7, 7), (2**53 - 1, 2**53 - 1), (2**53, str(2**53)), (2**159, str(2**159))]
)
def test_a_number_of_twenty_octets_is_shown_in_digits(number: int | None, shown: Any) -> None:
    """orjson refuses integers of more than 64 bits: one such list would be the end of the status page."""
    store = Truststore("partners", (ROOT.certificate,), (), Policy())
    built, _ = CrlSet.build([parsed(ROOT, at=NOW, number=number)], store.anchors)
    trust = Trust(store, RevocationPolicy("hard_fail"), built, DenyList(()), None, None)
    (listed,) = orjson.loads(orjson.dumps(lists_of(trust, NOW)))
    assert listed["number"] == shown
