"""The status page says first what an operator must not miss."""

from typing import Any

import pytest

from mtlsproxy.admin.page import status_page


def page(last: dict[str, Any] | None) -> str:
    return status_page(True, [], {"version": "1", "configuration": {"generation": 4, "last_reload": last}}, [])


def test_a_failed_reload_is_at_the_top_with_every_error() -> None:
    """Else who changed a file takes what is in force for what they wrote."""
    errors = ["p.yaml:3:1: listeners[0].bnd: unknown key", "p.yaml:9:1: user: <script>"]
    text = page({"at": "2030-01-01 00:00:00+00:00", "ok": False, "errors": errors})
    top, _, rest = text.partition("<h2>Status</h2>")
    assert "last reload FAILED" in top and "2030-01-01 00:00:00+00:00; generation 4 stays in force" in top
    assert "p.yaml:3:1: listeners[0].bnd: unknown key" in top and "user: &lt;script&gt;" in top
    assert "<title>mtlsproxy: ready, last reload FAILED</title>" in top
    assert "<script" not in text and rest


@pytest.mark.parametrize("last", [None, {"at": "2030-01-01 00:00:00+00:00", "ok": True, "errors": []}])
def test_a_reload_that_went_well_is_not_shouted_about(last: dict[str, Any] | None) -> None:
    assert "FAILED" not in page(last)
    assert "<title>mtlsproxy: ready</title>" in page(last)
