"""What a person does in the console: go somewhere, sign in, choose a language."""

from __future__ import annotations

from playwright.sync_api import Page, Request, expect

from tests.control.api.conftest import PASSWORD

expect.set_options(timeout=20_000)
"""How soon a page shows what it should is no concern of these tests: the machine may be busy with others."""

ARGUMENTS = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


IDLE = "() => new Promise((done) => requestAnimationFrame(() => requestIdleCallback(done, { timeout: 2000 })))"
"""Has ended when the page has drawn and has nothing to do, however busy the machine is."""

STILL = "reduce"
"""The `reduced_motion` of a browser's context: a click on what still unfolds may be lost on a busy machine."""


class Console:
    """The console in one tab."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self._asked: set[Request] = set()
        page.on("request", self._begun)
        page.on("requestfinished", self._ended)
        page.on("requestfailed", self._ended)

    def open(self, path: str) -> None:
        """Go to a page of the console, and wait until nothing is loading any more."""
        self.page.goto(self.url + path)
        self.settled()

    def go(self, path: str) -> None:
        """Go to another page as a link of the console does: nothing is loaded anew, which takes a fraction of `open`.
        For pages without open streams: they would be waited for.
        """
        to = "path => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')) }"
        self.page.evaluate(to, path)
        calm = 0
        while calm < 3:  # parts of a page are asked for when others have come
            self.page.evaluate(IDLE)
            calm = 0 if self._asked else calm + 1
        self.loaded()

    def _begun(self, request: Request) -> None:
        self._asked.add(request)

    def _ended(self, request: Request) -> None:
        self._asked.discard(request)

    def loaded(self) -> None:
        """Wait until the page has what it shows."""
        self.page.wait_for_load_state("networkidle")
        expect(self.page.locator("[aria-busy=true], .el-loading-mask:visible")).to_have_count(0)

    def settled(self) -> None:
        """Wait for that after a click, too, and until it is drawn. Pages opened with STILL do not fade or unfold."""
        self.page.evaluate(IDLE)
        self.page.wait_for_timeout(100)
        self.loaded()
        self.page.evaluate(IDLE)

    def sign_in(self, username: str, password: str = PASSWORD) -> None:
        """Sign in on the login page, which must be shown."""
        self.page.fill("#username", username)
        self.page.fill("#password", password)
        self.page.locator("button[type=submit]").click()
        expect(self.page.locator("#main h1")).to_be_visible()
        self.settled()

    def look(self, *, locale: str, theme: str) -> None:
        """Choose language and theme as if the person had done so before; takes effect with the next page."""
        self.page.add_init_script(
            f'localStorage.setItem(\'tunegate.preferences\', \'{{"locale":"{locale}","theme":"{theme}"}}\')'
        )
