"""The chat's code dialog: what is copied, run as it is, asks the upstream exactly what the page has asked."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.console.chatting import Chat, fill, gateway_at, run_copied
from tests.control.api.conftest import Running, Start
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.processes import free_port

ASKED = """What's "up"? $HOME `id` \\n 100 % 北京 😀\nAnd a second line' OR '1'='1"""
TOOLS = [
    {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "additionalProperties": False}}}
]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A provider."""
    with Upstream() as server:
        server.on("gpt", scripts.chat(["It is fine."]))
        yield server


@pytest.fixture
def chat(start_control: Start, upstream: Upstream, page: Page, tmp_path: Path) -> Iterator[tuple[Chat, Running]]:
    """The page with a gateway behind it, signed in as a member, and its control."""
    control = start_control(gateway_url=f"http://127.0.0.1:{free_port()}", allow_private_upstreams=True)
    fill(lambda path, body: control.admin.post(f"/api/v1{path}", json=body).raise_for_status(), upstream)
    address = control.settings.console.gateway_url
    with gateway_at(tmp_path / "gateway", address, control.url, control.service_token):
        yield Chat(Console(page, control.url)), control


def run_in_shell(code: str, key: str) -> str:
    """What a command that was copied from a page prints in bash, or fails the test."""
    plain = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TUNEGATE_API_KEY": key}
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], check=False, env=plain, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    content: str = json.loads(ran.stdout)["choices"][0]["message"]["content"]
    return content


def test_copied_code_asks_what_the_page_has_asked(chat: tuple[Chat, Running], page: Page, upstream: Upstream) -> None:
    console, control = chat
    key = control.as_("member").post("/api/v1/keys", json={"name": "app"}).json()["secret"]
    console.part("settings").click()
    console.part("system").fill('Be "brief".\nNever say $PATH.')
    page.get_by_label("temperature").fill("0.5")
    console.part("tools").fill(json.dumps(TOOLS))
    page.keyboard.press("Escape")
    expect(console.part("system")).to_be_hidden()
    console.ask(ASKED)
    expect(console.answer).to_contain_text("It is fine.")
    wanted: dict[str, Any] = upstream.requests[-1].json
    assert (wanted.pop("stream"), wanted.pop("stream_options")) == (True, {"include_usage": True})
    assert (wanted["messages"][1]["content"], wanted["tools"], wanted["temperature"]) == (ASKED, TOOLS, 0.5)
    console.part("code").click()
    dialog = page.get_by_role("dialog")
    copied: list[str] = []
    for kind in ("curl", "Python"):
        dialog.get_by_text(kind, exact=True).click()
        dialog.get_by_role("button", name="Copy", exact=True).click()
        expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
        copied.append(page.evaluate("navigator.clipboard.readText()"))
        assert copied[-1] == console.part("code-text").inner_text()
        assert "tgs-" not in copied[-1]
        assert key not in copied[-1]
    assert run_in_shell(copied[0], key) == "It is fine."
    assert upstream.requests[-1].json == wanted
    assert run_copied(copied[1], TUNEGATE_API_KEY=key) == "It is fine."
    assert upstream.requests[-1].json == wanted
    assert len(upstream.of("gpt")) == 3
