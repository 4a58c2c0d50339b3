"""The status page: plain HTML without scripts, every value escaped."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

SHOWN_REJECTIONS = 20
_COLUMNS = ("time", "listener", "reason", "subject", "fingerprint", "method", "path", "detail")

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ccc;padding:.25rem .5rem;"
    "text-align:left;vertical-align:top;overflow-wrap:anywhere}th{white-space:nowrap}"
    "[role=alert]{border-left:4px solid #b00020;padding-left:.75rem}"
)
STYLE_HASH = "sha256-" + base64.b64encode(hashlib.sha256(_STYLE.encode("utf-8")).digest()).decode("ascii")
"""Of the style element, for Content-Security-Policy."""


def status_page(
    ready: bool, reasons: Sequence[str], status: Mapping[str, Any], rejections: Sequence[Mapping[str, Any]]
) -> str:
    """The whole document. Arguments as the status source gives them; rejections newest first."""
    state = "ready" if ready else "not ready"
    failed = _failed_reload(status)
    also = ", last reload FAILED" if failed else ""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>mtlsproxy: '
        f"{state}{also}</title><style>{_STYLE}</style></head><body><main><h1>mtlsproxy is {state}</h1>"
        + _list(reasons)
        + failed
        + "<h2>Status</h2>"
        + _value(status)
        + "<h2>Latest refusals</h2>"
        + _rejections(rejections[:SHOWN_REJECTIONS])
        + '<p><a href="/api/status">status as JSON</a> · <a href="/api/rejections">refusals as JSON</a> · '
        '<a href="/metrics">metrics</a></p></main></body></html>'
    )


def _failed_reload(status: Mapping[str, Any]) -> str:
    """What operators who changed a file look for: it is not what is in force."""
    configuration = status.get("configuration", {})
    last = configuration.get("last_reload")
    if last is None or last["ok"]:
        return ""
    stays = f"at {last['at']}; generation {configuration.get('generation')} stays in force"
    return f'<div role="alert"><p><strong>last reload FAILED</strong> {escape(stays)}:</p>{_list(last["errors"])}</div>'


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        rows = (
            f'<tr><th scope="row">{escape(str(key))}</th><td>{_value(each)}</td></tr>' for key, each in value.items()
        )
        return f"<table>{''.join(rows)}</table>" if value else "none"
    if isinstance(value, list | tuple):
        return "<ul>" + "".join(f"<li>{_value(each)}</li>" for each in value) + "</ul>" if value else "none"
    return "none" if value is None else escape(str(value))


def _rejections(rejections: Sequence[Mapping[str, Any]]) -> str:
    if not rejections:
        return "<p>None since the start.</p>"
    head = "".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(_text(each.get(column)))}</td>" for column in _COLUMNS) + "</tr>"
        for each in rejections
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _text(value: object) -> str:
    return "" if value is None else str(value)
