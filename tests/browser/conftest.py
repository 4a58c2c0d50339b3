"""The status page in a real browser: Debian's Chromium, driven by playwright, at a running proxy."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from tests.integration.clients import alert, client_context, tls
from tests.integration.conftest import Material, config, material, start, upstream
from tests.integration.harness import RunningProxy, Tree, eventually

__all__ = ["config", "material", "start", "upstream"]

HOSTILE = "<img src=x onerror=alert(1)>\u202e</script>"


def _chromium() -> str | None:
    return next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """No longer than a module: playwright keeps an event loop of its own in this thread, beside which none can run."""
    path = _chromium()
    if path is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        # Chromium has no sandbox for root, which is who runs the gate in a container.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        launched = playwright.chromium.launch(executable_path=path, args=arguments)
        yield launched
        launched.close()


@dataclass
class Scene:
    """A proxy that has let in alice and refused others. problems: what the browser complained of."""

    proxy: RunningProxy
    material: Material
    problems: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.admin_port}/"

    def refuse_nobody(self) -> None:
        """Somebody without a certificate."""
        before = len(self.proxy.rejections())
        alert(self.proxy.port(), client_context(self.material.root))
        eventually(lambda: len(self.proxy.rejections()) > before)

    def refuse(self, name: str, sans: tuple[str, ...] = ()) -> None:
        """A client that no route lets in."""
        with self.connect(name, sans) as connection:
            assert connection.get("/closed").status == 403

    def connect(self, name: str, sans: tuple[str, ...] = ()) -> Any:
        client = self.material.client(name, sans)
        return tls(self.proxy.port(), client_context(self.material.root, client))


@pytest.fixture
def scene(material: Material, config: Tree, start: Callable[[Tree], RunningProxy], tmp_path: Path) -> Scene:
    config["routes"].insert(
        0, {"name": "closed", "paths": ["/closed"], "allow": [{"dns": "nobody.test"}], "upstream": "recorder"}
    )
    made = Scene(start(config), material, [])
    with made.connect("alice", ("DNS:alice.clients.test",)) as connection:
        assert connection.get("/orders").status == 200
    made.refuse("carol", ("DNS:carol.clients.test",))
    made.refuse(HOSTILE)
    made.refuse_nobody()
    return made


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, scene: Scene) -> Iterator[Open]:
    """Opens the page in a context of its own; at the end the browser must have had nothing to complain of."""
    contexts = []

    def open_in(
        width: int = 1440, scheme: str = "light", live: bool = True, clock: bool = False, **options: Any
    ) -> Page:
        """live: with its script at work. clock: time passes as the test says (`page.clock`)."""
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce", **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: scene.problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: scene.problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: scene.problems.append(f"dialog: {dialog.message}"))
        if clock:
            page.clock.install()
        page.goto(scene.url)
        if live:
            page.get_by_text("Live", exact=True).wait_for()
        return page

    yield open_in
    for context in contexts:
        context.close()
    assert scene.problems == []
