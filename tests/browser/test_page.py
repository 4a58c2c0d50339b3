"""What an operator sees, hears and reaches by keyboard: in any width, dark or light, with scripts and without."""

from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import HOSTILE, Open, Scene

# Everything that is cut off or sticks out sideways, but for what scrolls by itself.
STICKING_OUT = """() => {
  const wide = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > wide) found.push(`the page is ${document.documentElement.scrollWidth}`);
  for (const each of document.querySelectorAll("body *")) {
    const box = each.getBoundingClientRect();
    if (box.width && box.right > wide + 0.5 && !each.closest("code.line, .skip, caption, thead"))
      found.push(`${each.localName}.${each.className} ends at ${box.right}`);
  }
  return found;
}"""

# Text whose contrast with what is behind it is less than WCAG 2.2 §1.4.3 asks for.
FAINT = """() => {
  const channels = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const { rgb, a } = channels(getComputedStyle(at).backgroundColor);
      if (a) return rgb;
    }
    return [255, 255, 255];
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const at = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !at.checkVisibility() || at.closest("script")) continue;
    const [one, other] = [luminance(channels(getComputedStyle(at).color).rgb), luminance(behind(at))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found.push(`${walker.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(open_page: Open, width: int, scheme: str, tmp_path: Path) -> None:
    page = open_page(width, scheme)
    assert page.evaluate(STICKING_OUT) == []
    assert page.evaluate(FAINT) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(251, 251, 249)") is (scheme == "light")
    page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)  # for who wants to look


def test_it_says_who_came_and_who_was_refused_why(open_page: Open) -> None:
    page = open_page()
    expect(page).to_have_title("mtlsproxy: ready")
    expect(page.locator("#clients tbody tr").filter(has_text="alice.clients.test")).to_contain_text("all")
    refusals = page.locator("#refusals tbody tr")
    expect(refusals).to_have_count(3)
    expect(refusals.nth(0)).to_contain_text("no_certificate")
    carol = refusals.filter(has_text="carol.clients.test")
    for words in ("not_allowed", "GET /closed", "answered 403", "CN=Partner CA"):
        expect(carol).to_contain_text(words)
    expect(page.locator("#reasons tbody tr")).to_have_count(2)
    expect(page.locator("#upstreams")).to_contain_text("usable")
    expect(page.locator("#trust")).to_contain_text("partners")
    expect(page.locator("#configuration")).to_contain_text("proxy.yaml")


def test_what_a_certificate_says_is_text(open_page: Open, scene: Scene) -> None:
    page = open_page()
    row = page.locator("#refusals tbody tr").filter(has_text="onerror")
    expect(row.locator("th")).to_contain_text(HOSTILE.replace("\u202e", "\\u202e"))
    expect(page.locator("img")).to_have_count(0)
    # Nor could a mistake of ours make markup of it: the browser refuses strings where it expects markup.
    refused = page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>'; } catch (e) { return e.name; } }")
    assert refused == "TypeError"
    scene.problems[:] = [each for each in scene.problems if "TrustedHTML" not in each]  # the browser's word about that


def test_it_renews_itself_after_a_refusal_and_leaves_focus_and_rows_where_they_are(
    open_page: Open, scene: Scene
) -> None:
    page = open_page()
    carol = page.locator("#refusals tbody tr").filter(has_text="carol.clients.test")
    button = carol.get_by_role("button", name="Copy")
    button.focus()
    ident = carol.get_attribute("id")
    scene.refuse("dave", ("DNS:dave.clients.test",))
    first = page.locator("#refusals tbody tr").first
    expect(first).to_contain_text("dave.clients.test")
    expect(button).to_be_focused()
    assert carol.get_attribute("id") == ident
    scene.refuse("dave", ("DNS:dave.clients.test",))  # another certificate of his
    expect(page.locator("#refusals tbody tr").filter(has_text="dave.clients.test")).to_have_count(2)
    scene.refuse_nobody()
    expect(first).to_contain_text("2 times")
    expect(page.locator("#refusals tbody tr")).to_have_count(5)


def test_a_failed_reload_appears_and_goes(open_page: Open, scene: Scene, tmp_path: Path) -> None:
    page = open_page()
    file = tmp_path / "proxy.yaml"
    good = file.read_text()

    def reload() -> None:
        scene.proxy.loop.call_soon_threadsafe(scene.proxy.proxy.reloader.reload_soon)

    file.write_text(good.replace("listeners:", "listners:"))
    reload()
    expect(page.get_by_role("alert")).to_contain_text("listners")
    expect(page).to_have_title("mtlsproxy: ready, last reload FAILED")
    file.write_text(good)
    reload()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page).to_have_title("mtlsproxy: ready")


def test_the_line_that_explains_is_copied(open_page: Open, scene: Scene) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    newest = scene.proxy.rejections()[0]["request_id"]
    page.locator("#refusals tbody tr").first.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_have_count(1)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"mtlsproxy explain --request-id {newest} --admin {scene.url.removesuffix('/')}"


def test_where_nothing_may_be_copied_the_line_is_selected(open_page: Open, scene: Scene) -> None:
    page = open_page()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.locator("#refusals tbody tr").first.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Selected")).to_have_count(1)
    assert page.evaluate("String(getSelection())").startswith("mtlsproxy explain --request-id ")


def test_one_client_is_found_among_others_and_stays_found(open_page: Open, scene: Scene) -> None:
    page = open_page()
    page.get_by_role("searchbox", name="Find").fill("CAROL not_allowed")
    rows = page.locator("#refusals tbody tr:visible")
    expect(rows).to_have_count(1)
    expect(page.locator("#clients tbody tr:visible")).to_have_count(0)
    scene.refuse("erin", ("DNS:erin.clients.test",))
    page.locator("#refusals tbody tr").filter(has_text="erin").wait_for(state="attached")
    expect(rows).to_have_count(1)
    page.get_by_role("searchbox", name="Find").fill("")
    expect(rows).to_have_count(4)


def test_it_can_be_told_to_hold_still(open_page: Open, scene: Scene) -> None:
    page = open_page(clock=True)
    page.get_by_role("button", name="Pause").click()
    resume = page.get_by_role("button", name="Resume")
    expect(resume).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("Paused", exact=True)).to_be_visible()
    before = page.locator("main").inner_text()
    scene.refuse("frank", ("DNS:frank.clients.test",))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(60_000)
    assert page.locator("main").inner_text() == before
    assert asked == []
    resume.click()
    page.clock.run_for(2_000)
    expect(page.locator("#refusals")).to_contain_text("frank.clients.test")


def test_it_says_when_what_it_shows_may_be_old(open_page: Open, scene: Scene) -> None:
    page = open_page(clock=True)
    page.route("**/page.json", lambda route: route.fulfill(status=503, body=""))
    page.clock.run_for(20_000)
    expect(page.get_by_role("status")).to_have_text("Not connected: what is shown may be old")
    expect(page.locator("#refusals")).to_contain_text("carol.clients.test")
    page.unroute("**/page.json")
    page.clock.run_for(20_000)
    expect(page.get_by_role("status")).to_have_text("Live")
    # The browser's own word about the answers that failed.
    complaints = [each for each in scene.problems if "503" not in each]
    scene.problems[:] = complaints


def test_every_control_is_reached_by_keyboard_in_the_order_in_which_it_is_seen(open_page: Open) -> None:
    page = open_page()
    seen: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "() => document.activeElement === document.body ? '' "
            ": document.activeElement.textContent.trim() || document.activeElement.id"
        )
        if not name:
            break
        seen.append("explain" if name.startswith("mtlsproxy explain") else name)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", f"{name} does not show that it has the focus"
    assert seen == [
        "Skip to the refusals", "Pause",
        "Refusals", "Reasons", "Clients", "Trust", "Certificates", "Upstreams", "Configuration", "find",
        "explain", "Copy", "explain", "Copy", "explain", "Copy",
        "status", "refusals", "clients", "metrics",
    ]  # fmt: skip


def test_the_first_link_skips_what_is_on_every_page(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the refusals")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    inside = page.evaluate("document.activeElement.closest('section').id")
    assert inside == "refusals"


def test_who_hears_the_page_is_told_its_parts(open_page: Open) -> None:
    """At a width where tables are shown as cards, which must not cost them their meaning."""
    page = open_page(390)
    expect(page.get_by_role("heading", level=1)).to_have_text("mtlsproxy is ready")
    headings = page.get_by_role("heading", level=2).all_inner_texts()
    assert headings[1:] == [
        "Recent refusals", "Refusals by reason", "Clients", "Trust and revocation", "Certificates", "Upstreams",
        "Configuration",
    ]  # fmt: skip
    table = page.get_by_role("table", name="Recent refusals, newest first")
    assert table.get_by_role("columnheader").all_inner_texts() == ["Who", "Why", "What", "When", "Explain"]
    expect(table.get_by_role("rowheader")).to_have_count(3)
    for role, name in (("main", ""), ("navigation", "Sections"), ("region", "Clients"), ("searchbox", "Find")):
        expect(page.get_by_role(role, name=name)).to_have_count(1)  # type: ignore[arg-type]
    expect(page.get_by_role("status")).to_have_text("Live")
    for picture in page.get_by_role("img").all():
        assert "over the last" in (picture.get_attribute("aria-label") or "")


def test_without_scripts_everything_is_there_but_what_needs_them(open_page: Open) -> None:
    page = open_page(live=False, java_script_enabled=False)
    expect(page.locator("#refusals")).to_contain_text("carol.clients.test")
    expect(page.locator("#clients")).to_contain_text("alice.clients.test")
    expect(page.get_by_text("as of 20")).to_be_visible()
    for control in ("Pause", "Copy"):
        expect(page.get_by_role("button", name=control)).to_have_count(0)
    expect(page.get_by_role("searchbox")).to_have_count(0)


def test_nothing_is_loaded_from_elsewhere(open_page: Open, scene: Scene) -> None:
    page = open_page()
    loaded = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert {name for name in loaded if not name.startswith((scene.url, "data:"))} == set()
