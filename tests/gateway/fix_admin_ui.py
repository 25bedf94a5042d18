"""LiteLLM's admin UI in a headless browser: what its pages show, and what becomes of their calls."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Error, Locator, Page, Request, Response, expect, sync_playwright

from tests.fix_server import PATIENCE_SECONDS, wait_for

# As Debian and Google call them.
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
# What a click has set in motion has begun its calls by then.
TWO_FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


class AdminUI:
    """A browser's one page, and what became of the calls that it made."""

    def __init__(self, page: Page, gateway: str, pictures: Path) -> None:
        self.page = page
        self.gateway = gateway
        self.pictures = pictures
        self.refused: set[str] = set()
        self.exceptions: list[str] = []
        self.went_elsewhere: set[str] = set()
        self._pending: set[Request] = set()
        page.on("request", self._begins)
        page.on("requestfinished", self._ends)
        page.on("requestfailed", self._ends)
        page.on("response", self._answered)
        page.on("pageerror", lambda error: self.exceptions.append(str(error)))

    def _begins(self, request: Request) -> None:
        self._pending.add(request)
        if not request.url.startswith((self.gateway, "data:", "blob:")):
            self.went_elsewhere.add(request.url)

    def _ends(self, request: Request) -> None:
        self._pending.discard(request)

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.refused.add(f"{response.status} {response.request.method} {urlsplit(response.url).path}")

    def settle(self) -> None:
        """Wait until the page has all that it asked for."""

        def is_settled() -> bool:
            before = len(self._pending)
            try:
                self.page.evaluate(TWO_FRAMES)
            except Error:  # the page has sent the browser to another one
                return False
            return before == len(self._pending) == 0

        wait_for(is_settled, f"answers to {[request.url for request in self._pending]}")

    def open(self, path: str) -> None:
        self._pending.clear()  # what the last page still wants, it does not get
        self.page.goto(f"{self.gateway}{path}")
        self.settle()

    def open_each_tab(self) -> None:
        """Open them from left to right; those within a tab, which change with it, come last."""
        tabs = self.page.get_by_role("tab")
        number = 0
        while number < tabs.count():
            tabs.nth(number).click()
            self.settle()
            number += 1

    def log_in(self, password: str) -> None:
        self.page.get_by_role("textbox", name="Username").fill("admin")
        self.page.get_by_role("textbox", name="Password").fill(password)
        self.page.get_by_role("button", name="Login", exact=True).click()

    def row(self, *texts: str) -> Locator:
        """The row of a table that has all these texts."""
        row = self.page.get_by_role("row")
        for text in texts:
            row = row.filter(has_text=text)
        return row

    def take_picture(self, name: str) -> None:
        """Take it once nothing moves any more."""
        expect(self.page.locator("[data-sonner-toast]")).to_have_count(0)
        self.settle()
        file = self.pictures / f"{name}.png"

        def is_at_rest() -> bool:
            before = self.page.screenshot()
            return self.page.screenshot(path=file) == before

        wait_for(is_at_rest, f"{name}: a picture of a page at rest")


@contextlib.contextmanager
def browsing(gateway: str, pictures: Path) -> Iterator[AdminUI]:
    """Start a browser; that there is none is a failure, never a skip."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        pytest.fail(
            f"The admin UI is tested in a browser, and none of {', '.join(BROWSERS)} is on the PATH.\n"
            "  Cure: scripts/packages --with-browser, on Debian; else install Google's.",
            pytrace=False,
        )
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser)
        page = chromium.new_page(viewport={"width": 1280, "height": 800}, timezone_id="UTC")
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        yield AdminUI(page, gateway, pictures)
        chromium.close()
