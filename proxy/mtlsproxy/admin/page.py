"""The status page: written as HTML, so that it can be read without scripts, and kept up to date by one.

Style and script are in the document, known to the browser by their hashes; nothing else may run or be loaded.
"""

import base64
import hashlib
from importlib.resources import files
from typing import Any

from mtlsproxy.admin.element import Element, el, to_html, to_json
from mtlsproxy.admin.view.certificates import certificates_section
from mtlsproxy.admin.view.clients import clients_section
from mtlsproxy.admin.view.configuration import configuration_section
from mtlsproxy.admin.view.facts import Facts
from mtlsproxy.admin.view.overview import alerts, glance, reload_failed, state
from mtlsproxy.admin.view.refusals import reasons_section, refusals_section
from mtlsproxy.admin.view.section import badge
from mtlsproxy.admin.view.trust import trust_section
from mtlsproxy.admin.view.upstreams import upstreams_section
from mtlsproxy.admin.view.words import utc

_SECTIONS = (
    ("refusals", "Refusals"),
    ("reasons", "Reasons"),
    ("clients", "Clients"),
    ("trust", "Trust"),
    ("certificates", "Certificates"),
    ("upstreams", "Upstreams"),
    ("configuration", "Configuration"),
)
_RAW = (
    ("/api/status", "status"),
    ("/api/rejections", "refusals"),
    ("/api/clients", "clients"),
    ("/metrics", "metrics"),
)


def _asset(name: str) -> str:
    return files("mtlsproxy.admin").joinpath("assets", name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


_STYLE, _SCRIPT = _asset("page.css"), _asset("page.js")

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src '{_hash(_STYLE)}'",
        f"script-src '{_hash(_SCRIPT)}'",
        "connect-src 'self'",
        "img-src data:",  # the icon, which browsers look for anyway
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no string can become markup or code, whoever wrote it
        "trusted-types 'none'",
    )
)

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%232f6f4f' "
    "d='M8 1l6 2v5c0 4-3 6-6 7-3-1-6-3-6-7V3z'/%3E%3C/svg%3E"
)


def document(facts: Facts) -> str:
    """The whole page."""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<title>{title(facts)}</title><link rel="icon" href="{_ICON}"><style>{_STYLE}</style></head><body>'
        f"{to_html(_body(facts))}<script>{_SCRIPT}</script></body></html>"
    )


def renewal(facts: Facts) -> dict[str, Any]:
    """What the page's script makes the same page of: `title`, and `page`, the tree of its body."""
    return {"title": title(facts), "page": to_json(_body(facts))}


def title(facts: Facts) -> str:
    return f"mtlsproxy: {state(facts)}{', last reload FAILED' if reload_failed(facts) else ''}"


def _body(facts: Facts) -> Element:
    return el("div", _header(facts), _main(facts), _footer(), id="page")


def _header(facts: Facts) -> Element:
    return el(
        "header",
        el("a", "Skip to the refusals", href="#refusals", class_="skip"),
        el(
            "div",
            el("h1", f"mtlsproxy is {state(facts)}", class_="unseen"),
            el("span", "mtlsproxy", class_="brand", aria_hidden="true"),
            badge("good" if facts.ready else "bad", state(facts)),
            el("span", f"as of {utc(facts.now)}", class_="as-of"),
            # The script's own: it says whether the page is live, and can be told to stop.
            el("span", "", class_="connection", data_live="", role="status", aria_live="polite"),
            el("button", "Pause", type="button", class_="live", data_live="", id="pause", aria_pressed="false"),
            class_="bar",
        ),
        el(
            "nav",
            el("ul", *(el("li", el("a", words, href=f"#{name}")) for name, words in _SECTIONS)),
            el("label", "Find ", el("input", type="search", id="find"), class_="live", data_live=""),
            aria_label="Sections",
        ),
    )


def _main(facts: Facts) -> Element:
    return el(
        "main",
        alerts(facts),
        glance(facts),
        refusals_section(facts),
        reasons_section(facts),
        clients_section(facts),
        trust_section(facts),
        certificates_section(facts),
        upstreams_section(facts),
        configuration_section(facts),
        id="main",
    )


def _footer() -> Element:
    links = [el("li", el("a", words, href=path)) for path, words in _RAW]
    return el("footer", el("span", "The same as data:"), el("ul", *links))
