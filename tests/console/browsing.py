"""What a person does in the console: go somewhere, sign in, choose a language."""

from __future__ import annotations

from playwright.sync_api import Page, Request, expect

from tests.control.api.conftest import PASSWORD

ARGUMENTS = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


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
        self.page.wait_for_timeout(50)
        while self._asked:
            self.page.wait_for_timeout(20)
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
        """Wait for that, and until the page has stopped moving."""
        self.loaded()
        self.page.wait_for_timeout(350)  # Element Plus fades for 300 ms

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
