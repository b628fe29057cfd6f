"""What the tests of the chat share: a person at the page, a gateway for it, and answers to show."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.console.browsing import Console
from tests.fakes import scripts, wire
from tests.fakes.gateway import Gateway
from tests.fakes.upstream import Seen, Step, Upstream, Wait
from tests.fakes.wire import Usage

ENDPOINT = {"name": "up", "provider": "openai"}
HOSTILE = """<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>
<svg onload="window.hacked=3"></svg> <iframe srcdoc="<script>parent.hacked=4</script>"></iframe>

[click](javascript:window.hacked=5) [html](data:text/html;base64,PHNjcmlwdD4=) [here](/account) <javascript:alert(1)>

![pixel](http://evil.example/pixel.png) ![svg](data:image/svg+xml;base64,PHN2Zz4=)

```html" onmouseover="window.hacked=6
<b>code</b>
```

$\\href{javascript:window.hacked=7}{x}$ $$\\includegraphics{http://evil.example/x.png}$$

<style>body{display:none}</style> [good](https://good.example/)
"""


"""An answer that tries everything to get out of its place."""
RICH = f"""Look:

$$\\frac{{a}}{{b}}$$

| a | b |
|---|---|
| 1 | 2 |

```python
def f(x):
    return x  # {"long " * 40}
```
"""


def fill(post: Callable[[str, Any], object], upstream: Upstream) -> None:
    """An endpoint and two models for everybody."""
    post("/endpoints", ENDPOINT | {"spec": {"base_url": upstream.url}})
    for name in ("gpt", "other"):
        target = {"target": [{"endpoint": "up", "model": name}], "price": {"input": "1000", "output": "1000"}}
        post("/routes", {"name": name, "grants": [{"principal_kind": "everyone"}], "spec": target})


def run_copied(code: str, **env: str) -> str:
    """What code that was copied from a page prints, run by a Python of its own with the `openai` package."""
    plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ran = subprocess.run(
        [sys.executable, "-c", code], check=False, env=plain | env, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def gateway_at(folder: Path, address: str, control: str, token: str) -> Gateway:
    """A gateway at an address, which runs from control and lets its console's pages in."""
    folder.mkdir()
    tables = {
        "gateway": {"listen": address.removeprefix("http://"), "cors_origins": [control]},
        "control": {"url": control, "token": "env:SERVICE_TOKEN"},
    }
    return Gateway(tables, folder, env={"SERVICE_TOKEN": token})


class Chat:
    """What a person does on the page."""

    def __init__(self, console: Console, who: str = "member", password: str | None = None) -> None:
        self.console, self.page = console, console.page
        console.open("/chat")
        console.sign_in(who, *([password] if password else []))
        expect(self.part("model")).to_contain_text("gpt")

    def part(self, name: str) -> Any:
        return self.page.locator(f"[data-test=chat-{name}]")

    def ask(self, text: str) -> None:
        self.part("input").fill(text)
        self.part("input").press("Enter")

    @property
    def answer(self) -> Any:
        """The last one."""
        return self.part("assistant").last

    def saved(self) -> None:
        expect(self.part("saving")).to_have_attribute("data-state", "saved")


def held(event: threading.Event, *words: str) -> Callable[[Seen], list[Step]]:
    """A stream that waits for the event before its last word."""

    def answer(seen: Seen) -> list[Step]:
        *first, last = (wire.word_event(word) for word in words)
        return scripts.stream(
            [wire.role_event(), *first, Wait(event), last, *wire.openai_stream([], Usage(), asked=True)]
        )

    return answer
