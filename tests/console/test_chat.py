"""Chat: a browser, the console, a real gateway that runs from a real control, and an upstream that obeys."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.console.chatting import HOSTILE, RICH, Chat, fill, gateway_at, held
from tests.console.layout import faults
from tests.control.api.conftest import Running, Start
from tests.fakes import scripts, wire
from tests.fakes.gateway import Gateway
from tests.fakes.plane import PASSWORD, Plane
from tests.fakes.upstream import Close, Seen, Step, Upstream
from tests.fakes.wire import Usage
from tests.processes import eventually, free_port

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A provider."""
    with Upstream() as server:
        yield server


@pytest.fixture
def control(start_control: Start, upstream: Upstream) -> Running:
    """Control that knows where the gateway will be, with two models for everybody."""
    running = start_control(gateway_url=f"http://127.0.0.1:{free_port()}", allow_private_upstreams=True)
    fill(lambda path, body: running.admin.post(f"/api/v1{path}", json=body).raise_for_status(), upstream)
    return running


@pytest.fixture
def gateway(control: Running, tmp_path: Path) -> Iterator[Gateway]:
    """The gateway that runs from it, and lets its console's pages in."""
    address = control.settings.console.gateway_url
    with gateway_at(tmp_path / "gateway", address, control.url, control.service_token) as running:
        yield running


@pytest.fixture
def chat(console: Console, gateway: Gateway) -> Chat:
    """The page, signed in as a member."""
    return Chat(console)


def test_an_answer_arrives_piece_by_piece_and_is_there_after_a_reload(
    chat: Chat, page: Page, upstream: Upstream, control: Running
) -> None:
    go = threading.Event()
    upstream.on("gpt", held(go, "Hello **", "brave", "** world"))
    chat.ask("Who are you?\nSecond line")
    expect(chat.answer).to_contain_text("brave")
    expect(chat.answer).not_to_contain_text("world")
    expect(chat.part("stop")).to_be_visible()
    go.set()
    expect(chat.answer.locator("strong")).to_have_text("brave")
    expect(chat.answer).to_contain_text("20 in, 10 out")
    expect(chat.answer).to_contain_text("first word")
    expect(chat.answer).to_contain_text("cost 0.03")
    request_id = chat.answer.locator("[data-test=chat-request-id]").text_content()
    assert control.sql("SELECT key FROM usage_event WHERE request_id = ?", request_id) == [("console@member",)]
    chat.saved()
    expect(page).to_have_url(re.compile(r"/chat\?session=[0-9a-f-]{36}$"))
    expect(chat.part("item")).to_contain_text("Who are you? Second line")
    page.reload()
    expect(chat.answer.locator("strong")).to_have_text("brave")
    expect(chat.part("user")).to_contain_text("Second line")
    expect(page.locator("h1")).to_have_text("Who are you? Second line")
    authorization = upstream.requests[-1].header("authorization") or ""
    assert "tgs-" not in authorization


def test_an_answer_can_be_stopped_and_asked_for_again_and_a_question_changed(
    chat: Chat, page: Page, upstream: Upstream, control: Running
) -> None:
    never = threading.Event()
    upstream.queue("gpt", held(never, "half", " never"))
    upstream.on("gpt", scripts.chat(["a whole", " answer"]))
    chat.ask("Tell me")
    expect(chat.answer).to_contain_text("half")
    chat.part("stop").click()
    expect(chat.answer.locator("[data-test=chat-stopped]")).to_be_visible()
    chat.saved()
    eventually(lambda: control.sql("SELECT ended FROM usage_event") == [("client_gone_partial",)])
    chat.part("regenerate").click()
    expect(chat.answer).to_contain_text("a whole answer")
    expect(chat.part("assistant")).to_have_count(1)
    chat.ask("And more")
    expect(chat.part("assistant")).to_have_count(2)
    expect(chat.answer).to_contain_text("a whole answer")
    chat.part("edit").first.click()
    chat.part("draft").fill("Tell me otherwise")
    chat.part("resend").click()
    expect(chat.part("assistant")).to_have_count(1)
    expect(chat.answer).to_contain_text("a whole answer")
    chat.saved()
    asked = [[m["content"] for m in seen.json["messages"]] for seen in upstream.requests]
    assert asked == [["Tell me"], ["Tell me"], ["Tell me", "a whole answer", "And more"], ["Tell me otherwise"]]
    never.set()


def test_sessions_are_found_renamed_and_deleted(chat: Chat, page: Page) -> None:
    for text in ("First question", "第二个问题"):
        chat.part("new").click()
        chat.ask(text)
        expect(chat.answer).to_contain_text("w0 w1")
        chat.saved()
    expect(chat.part("item")).to_have_count(2)
    page.get_by_placeholder("Search titles and text").fill("第二")
    page.keyboard.press("Enter")
    expect(chat.part("item")).to_have_count(1)
    chat.part("item-more").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.locator(".el-message-box__input input").fill("Renamed")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("h1")).to_have_text("Renamed")
    page.get_by_placeholder("Search titles and text").fill("")
    page.keyboard.press("Enter")
    expect(chat.part("item")).to_have_count(2)
    chat.part("item").filter(has_text="First").locator("button").first.click()
    expect(chat.part("user")).to_contain_text("First question")
    chat.part("item").filter(has_text="First").locator("[data-test=chat-item-more]").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(chat.part("item")).to_have_count(1)
    expect(chat.part("item")).to_contain_text("Renamed")
    expect(chat.part("user")).to_have_count(0)


def test_a_hostile_answer_does_nothing(chat: Chat, page: Page, upstream: Upstream) -> None:
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    upstream.on("gpt", scripts.chat([HOSTILE]))
    chat.ask("hi")
    expect(chat.answer).to_contain_text("good")
    chat.saved()
    page.reload()
    expect(chat.answer.locator("a", has_text="good")).to_have_attribute("rel", "noopener noreferrer nofollow")
    expect(chat.answer.locator("math").first).to_be_attached()
    for link in chat.answer.locator(".markdown a").all():
        link.hover()
    for element in (
        "script",
        "style",
        "iframe",
        "svg:not(.el-icon svg)",
        ".markdown img",
        "[onerror], [onmouseover], [onload]",
    ):
        expect(chat.answer.locator(element)).to_have_count(0)
    hrefs = chat.answer.locator(".markdown [href]").evaluate_all("all => all.map((one) => one.getAttribute('href'))")
    assert hrefs == ["https://good.example/"]
    assert page.evaluate("window.hacked") is None
    assert not [url for url in requested if "evil.example" in url]


def test_parameters_and_images_are_sent_and_what_is_no_json_is_not(chat: Chat, page: Page, upstream: Upstream) -> None:
    chat.part("settings").click()
    chat.part("system").fill("Be brief")
    page.get_by_label("temperature").fill("0.5")
    page.get_by_label("max_tokens").fill("17")
    chat.part("tools").fill("[{")
    page.keyboard.press("Escape")
    expect(chat.part("system")).to_be_hidden()
    chat.part("file").set_input_files({"name": "dot.png", "mimeType": "image/png", "buffer": PIXEL})
    expect(page.locator(".composer img")).to_be_visible()
    chat.ask("What is this?")
    expect(page.locator(".el-form-item__error")).to_contain_text("not JSON")
    assert upstream.requests == []
    chat.part("tools").fill('[{"type": "function", "function": {"name": "f"}}]')
    page.keyboard.press("Escape")
    expect(chat.part("system")).to_be_hidden()
    expect(chat.part("input")).to_have_value("What is this?")
    chat.part("send").click()
    expect(chat.answer).to_contain_text("w0 w1")
    body = upstream.requests[-1].json
    assert body["messages"][0] == {"role": "system", "content": "Be brief"}
    text, image = body["messages"][1]["content"]
    assert text == {"type": "text", "text": "What is this?"}
    assert image["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PIXEL).decode()
    assert (body["temperature"], body["max_tokens"], body["tools"][0]["function"]["name"]) == (0.5, 17, "f")
    assert "top_p" not in body
    chat.saved()
    page.reload()
    expect(chat.part("user").locator("img")).to_be_visible()
    chat.part("code").click()
    expect(chat.part("code-text")).to_contain_text("$TUNEGATE_API_KEY")
    expect(chat.part("code-text")).not_to_contain_text("tgs-")


def test_what_is_too_large_or_no_image_is_not_attached(chat: Chat, page: Page) -> None:
    chat.part("file").set_input_files({"name": "big.png", "mimeType": "image/png", "buffer": b"x" * 1_000_001})
    expect(page.locator(".el-message")).to_contain_text("big.png is larger")
    expect(page.locator(".el-message")).to_have_css("position", "fixed")
    chat.part("file").set_input_files({"name": "page.svg", "mimeType": "image/svg+xml", "buffer": b"<svg/>"})
    expect(page.locator(".el-message").last).to_contain_text("page.svg is not")
    expect(page.locator(".composer img")).to_have_count(0)


def test_reasoning_and_tool_calls_are_shown(chat: Chat, upstream: Upstream) -> None:
    def thinking(seen: Seen) -> list[Step]:
        call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "get_rate", "arguments": '{"cur'}}
        rest = {"index": 0, "function": {"arguments": 'rency":"EUR"}'}}
        deltas: list[dict[str, object]] = [
            {"reasoning_content": "let me "}, {"reasoning_content": "think"},
            {"tool_calls": [call]}, {"tool_calls": [rest]},
        ]  # fmt: skip
        events = [wire.event(wire.chunk(seen.model, wire.delta(one))) for one in deltas]
        return scripts.stream([*events, *wire.openai_stream([], Usage(), asked=True)])

    upstream.on("gpt", thinking)
    chat.ask("rate?")
    expect(chat.part("tool")).to_contain_text("get_rate")
    expect(chat.part("tool").locator("pre")).to_contain_text('"currency": "EUR"')
    expect(chat.answer.locator("summary")).to_be_visible()
    expect(chat.answer).not_to_contain_text("Waiting")


def test_results_of_tools_are_written_and_the_model_goes_on(chat: Chat, page: Page, upstream: Upstream) -> None:
    names = ("get_rate", "now")
    calls = [
        {"index": n, "id": f"c{n}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for n, name in enumerate(names)
    ]

    def calling(seen: Seen) -> list[Step]:
        if any(message["role"] == "tool" for message in seen.json["messages"]):
            return scripts.stream(wire.openai_stream(["It ", "is 1.1"], Usage(), asked=True))
        events = [wire.event(wire.chunk(seen.model, wire.delta({"tool_calls": calls})))]
        return scripts.stream([*events, *wire.openai_stream([], Usage(), asked=True)])

    upstream.on("gpt", calling)
    chat.part("file").set_input_files({"name": "dot.png", "mimeType": "image/png", "buffer": PIXEL})
    expect(page.locator(".composer img")).to_be_visible()
    chat.ask("rate?")
    expect(chat.part("tool")).to_have_count(2)
    chat.part("result").first.fill('{"rate": 1.1}')
    expect(chat.part("respond")).to_be_disabled()
    chat.part("result").last.fill("noon, 北京")
    chat.part("respond").click()
    expect(chat.answer).to_contain_text("It is 1.1")
    question, answer, *results = upstream.requests[-1].json["messages"]
    assert [part["type"] for part in question["content"]] == ["text", "image_url"]
    assert (answer["role"], [call["id"] for call in answer["tool_calls"]]) == ("assistant", ["c0", "c1"])
    assert [call["function"]["name"] for call in answer["tool_calls"]] == list(names)
    assert results == [
        {"role": "tool", "tool_call_id": "c0", "content": '{"rate": 1.1}'},
        {"role": "tool", "tool_call_id": "c1", "content": "noon, 北京"},
    ]
    expect(page.locator("article.tool").first).to_contain_text("Result of get_rate")
    expect(chat.part("result")).to_have_count(0)
    chat.saved()
    page.reload()
    expect(page.locator("article.tool pre").last).to_have_text("noon, 北京")
    chat.ask("and now?")
    expect(chat.part("assistant")).to_have_count(3)
    expect(chat.answer).to_contain_text("It is 1.1")
    assert [message["role"] for message in upstream.requests[-1].json["messages"]] == [
        "user", "assistant", "tool", "tool", "assistant", "user",
    ]  # fmt: skip


def test_errors_of_the_gateway_are_shown_as_they_are(chat: Chat, page: Page, upstream: Upstream) -> None:
    upstream.on("gpt", scripts.error(400, "This prompt is not liked", code="content_filter"))
    chat.ask("hi")
    failure = chat.answer.locator("[data-test=chat-failure]")
    expect(failure).to_contain_text("This prompt is not liked")
    expect(failure).to_contain_text("400 · content_filter")
    expect(chat.answer.locator("[data-test=chat-request-id]")).not_to_be_empty()
    upstream.on("gpt", lambda seen: [*scripts.stream([wire.word_event("begun")], end=False), Close()])
    chat.part("regenerate").click()
    expect(chat.answer).to_contain_text("begun")
    expect(failure).to_be_visible()
    chat.saved()
    page.reload()
    expect(failure).to_be_visible()


def test_a_key_that_was_revoked_says_so(chat: Chat, page: Page, control: Running) -> None:
    control.admin.delete("/api/v1/keys/console@member").raise_for_status()
    page.reload()
    expect(chat.part("gateway-problem")).to_contain_text("was revoked")


def test_a_gateway_that_does_not_answer_is_said_and_tried_again(
    console: Console, control: Running, tmp_path: Path
) -> None:
    page = console.page
    console.open("/chat")
    console.sign_in("member")
    expect(page.locator("[data-test=chat-gateway-problem]")).to_contain_text("does not answer")
    address = control.settings.console.gateway_url
    with gateway_at(tmp_path / "late", address, control.url, control.service_token):
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("[data-test=chat-model]")).to_contain_text("gpt")


def test_two_tabs_do_not_overwrite_each_other_unasked(chat: Chat, page: Page) -> None:
    chat.ask("one")
    expect(chat.answer).to_contain_text("w0 w1")
    chat.saved()
    second = page.context.new_page()
    second.goto(page.url)
    second.locator("[data-test=chat-input]").fill("from the second tab")
    second.locator("[data-test=chat-input]").press("Enter")
    expect(second.locator("[data-test=chat-assistant]")).to_have_count(2)
    expect(second.locator("[data-test=chat-saving]")).to_have_attribute("data-state", "saved")
    chat.ask("from the first tab")
    expect(chat.part("saving")).to_have_attribute("data-state", "conflict")
    chat.part("saving").get_by_role("button").click()
    page.get_by_role("button", name="This one").click()
    chat.saved()
    page.reload()
    expect(chat.part("user").last).to_contain_text("from the first tab")
    second.close()


def test_control_is_killed_and_comes_back_and_nothing_that_was_shown_is_lost(
    page: Page, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("TUNEGATE_CONSOLE_GATEWAY_URL", address)
    go = threading.Event()
    upstream.on("gpt", held(go, "before", " and after"))
    with Plane(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/c.db") as plane:
        fill(lambda path, body: plane.post(path, **body), upstream)
        with gateway_at(tmp_path / "gateway", address, plane.url, plane.service_token):
            chat = Chat(Console(page, plane.url), "admin", PASSWORD)
            chat.ask("Survive this")
            expect(chat.answer).to_contain_text("before")
            chat.saved()
            plane.kill9()
            go.set()
            expect(chat.answer).to_contain_text("before and after")
            expect(chat.part("saving")).to_have_attribute("data-state", "waiting")
            expect(chat.part("saving")).to_contain_text("Not saved")
            plane.start()
            expect(chat.part("saving")).to_have_attribute("data-state", "saved")
            page.reload()
            expect(chat.answer).to_contain_text("before and after")


def test_a_viewer_has_no_chat(console: Console, page: Page) -> None:
    console.open("/chat")
    console.page.fill("#username", "viewer")
    console.page.fill("#password", "correct horse battery")
    console.page.locator("button[type=submit]").click()
    expect(page.locator("[data-test=state-forbidden]")).to_be_visible()
    expect(page.get_by_role("link", name="Chat", exact=True)).to_have_count(0)


LOOKS = [(1920, "dark", "en"), (1280, "light", "zh-CN"), (390, "dark", "zh-CN")]


@pytest.mark.parametrize(("width", "theme", "locale"), LOOKS)
def test_a_conversation_is_laid_out_well_and_can_be_left_on_a_phone(
    console: Console, page: Page, gateway: Gateway, upstream: Upstream, width: int, theme: str, locale: str
) -> None:
    upstream.on("gpt", scripts.chat([RICH]))
    page.set_viewport_size({"width": width, "height": 800})
    console.look(locale=locale, theme=theme)
    chat = Chat(console)
    chat.ask("Show me everything " * 20)
    expect(chat.answer.locator("math")).to_be_visible()
    chat.saved()
    console.settled()
    assert faults(page) == []
    if width == 390:
        expect(chat.part("new")).to_be_hidden()
        chat.part("list").click()
        chat.part("new").click()
        expect(chat.part("user")).to_have_count(0)
        expect(chat.part("new")).to_be_hidden()
    else:
        chat.part("settings").click()
        console.settled()
        assert faults(page) == []
