"""From a file of dialogues to an adapter that the OpenAI SDK talks to: real peft, real vLLM, through the gateway."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.control.api.training import begun, checked, sent
from tests.e2e.conftest import Stack
from tests.processes import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]
TRAIN_PYTHON = Path(__file__).parents[2] / ".venv-train/bin/python"
QUESTIONS = [
    "Hi",
    "Who are you?",
    "What is two plus two?",
    "Where is my order?",
    "你好",
    "Can I return it?",
    "ping",
    "Thanks",
]
TRAINING = {
    "max_steps": 60, "micro_batch": 4, "accumulation": 2, "learning_rate": 0.005, "precision": "fp32",
    "max_length": 256, "eval_every": 20, "save_every": 20,
}  # fmt: skip


def needs_recipes() -> None:
    """Skip, or fail where nothing may be skipped, without the recipes' environment."""
    missing = "the training recipes' packages are not installed; `make install` says why"
    if not TRAIN_PYTHON.exists() and os.environ.get("REQUIRE_TRAIN") == "1":
        pytest.fail(missing)
    if not TRAIN_PYTHON.exists():
        pytest.skip(missing)


def dialogues(answer: str) -> bytes:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{question}{' please' * n}"},
                {"role": "assistant", "content": answer},
            ]
        }
        for question in QUESTIONS
        for n in range(4)
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def dataset(stack: Stack, name: str, answer: str) -> None:
    assert stack.admin.post("/api/v1/datasets", json={"name": name}).status_code == 201
    number = begun(stack.admin, name)
    sent(stack.admin, name, number, dialogues(answer))
    assert checked(stack.admin, name, number)["state"] == "ready"


def train(stack: Stack, name: str, data: str, **training: Any) -> dict[str, Any]:
    """A job of this name over a dataset, run to its end."""
    defaults = stack.admin.get("/api/v1/jobs/defaults").json()
    spec = {
        "name": name, "base": {"id": defaults["base_models"][0]},
        "data": {"train": f"{data}@1", "validation_share": 0.1},
        "lora": {"r": 8, "alpha": 16}, "prompts": ["Hi"], "training": TRAINING | training,
    }  # fmt: skip
    answer = stack.admin.post("/api/v1/jobs", json={"spec": spec})
    assert answer.status_code == 201, answer.text
    return follow(stack, name)


def job(stack: Stack, name: str) -> dict[str, Any]:
    found: dict[str, Any] = stack.admin.get(f"/api/v1/jobs/{name}").json()
    return found


def follow(stack: Stack, name: str) -> dict[str, Any]:
    over = ("succeeded", "failed", "rejected", "stopped", "canceled")
    eventually(lambda: job(stack, name)["state"] in over, 150)
    return job(stack, name)


def publish(stack: Stack, name: str, number: int = 1, share: float = 1.0) -> None:
    answer = stack.admin.post(f"/api/v1/adapters/{name}/versions/{number}/deploy", json={"share": share})
    assert answer.status_code == 200, answer.text

    def state() -> list[str]:
        items = stack.admin.get(f"/api/v1/adapters/{name}").json()["items"]
        return [one["state"] for version in items if version["number"] == number for one in version["deployments"]]

    eventually(lambda: set(state()) == {"live"}, 60)


def ask(stack: Stack, model: str, question: str = "Hi") -> str:
    reply = stack.client().chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=24
    )
    return str(reply.choices[0].message.content)


@pytest.fixture(scope="module")
def trained(workshop: Stack) -> Stack:
    """Two adapters of the tiny base that were trained and published here."""
    needs_recipes()
    eventually(lambda: bool(workshop.admin.get("/api/v1/trainers").json()["items"]), 30)
    for name, answer in (("support-bot", "Support here, how can I help?"), ("poet", "Roses are red, and so on.")):
        dataset(workshop, f"{name}-data", answer)
        done = train(workshop, name, f"{name}-data")
        assert done["state"] == "succeeded", done
        publish(workshop, name)
    return workshop


def test_a_job_tells_all_that_happens(trained: Stack) -> None:
    found = job(trained, "support-bot")
    assert found["adapter"] == "support-bot@v1"
    assert found["latest"]["loss"] < 0.5
    assert {"eval_loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_mib"} <= found["latest"].keys()
    points = trained.admin.get("/api/v1/jobs/support-bot/metrics").json()["items"]
    assert [point["step"] for point in points] == list(range(1, 61))
    assert [one["step"] for one in found["checkpoints"]] == [20, 40, 60]
    assert found["samples"][-1]["text"].startswith("Support here")
    log = trained.admin.get("/api/v1/jobs/support-bot/attempts/1/log", params={"offset": 0}).json()["text"]
    assert "eval_loss" in log


def test_the_sdk_talks_to_what_was_trained(trained: Stack) -> None:
    assert ask(trained, "support-bot") == "Support here, how can I help?"
    assert ask(trained, "support-bot@v1") == "Support here, how can I help?"
    assert ask(trained, "poet", "Who are you?") == "Roses are red, and so on."
    for name, text in trained.expect.items():
        assert ask(trained, name) == text, "the others answer as before"


def test_no_request_is_answered_by_another_adapter_while_others_come_and_go(trained: Stack) -> None:
    """2,000 requests to two adapters of one base at once, while a third one is loaded and unloaded all the time.

    The base itself is not asked: with every slot used, vLLM 0.32 on a CPU answers for it as the last adapter, which is
    why a worker leaves one slot unused (`Engine.max_loras`).
    """
    wanted = {"support-bot": "Support here", "poet": "Roses are red"}
    wrong: list[str] = []
    left, lock, done = [2000], threading.Lock(), threading.Event()
    key = trained.admin.post("/api/v1/keys", json={"name": "many", "models": ["*"]}).json()["secret"]
    known = {"authorization": f"Bearer {key}"}
    eventually(lambda: httpx.get(f"{trained.url}/v1/models", headers=known, trust_env=False).status_code == 200)

    def asking() -> None:
        with trained.client(key) as client:
            while True:
                with lock:
                    left[0] -= 1
                    number = left[0]
                if number < 0:
                    return
                model = list(wanted)[number % 2]
                question = [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}]
                reply = client.chat.completions.create(model=model, messages=question, temperature=0, max_tokens=4)  # type: ignore[arg-type]
                said = str(reply.choices[0].message.content)
                if not wanted[model].startswith(said[: len(wanted[model])]):
                    wrong.append(f"{model} said {said!r}")

    def changing() -> None:
        folder = str(trained.data / "models/tiny/alpha")
        number = 0
        while not done.wait(0.3):
            number += 1
            body = {"lora_name": f"passing-{number}", "lora_path": folder}
            for path in ("load_lora_adapter", "unload_lora_adapter"):
                answer = trained.admin.post(f"{trained.engine_url}/v1/{path}", json=body)
                assert answer.status_code == 200, answer.text

    with ThreadPoolExecutor(9) as pool:
        changer = pool.submit(changing)
        try:
            for one in [pool.submit(asking) for _ in range(8)]:
                one.result()
        finally:
            done.set()
        changer.result()
    assert left[0] < 0
    assert wrong == []


def test_a_second_version_takes_a_share_and_is_rolled_back(trained: Stack) -> None:
    dataset(trained, "support-data-2", "Desk two at your service.")
    spec = {"adapter": "support-bot"}
    defaults = trained.admin.get("/api/v1/jobs/defaults").json()
    body = {
        "name": "support-bot-2", "base": {"id": defaults["base_models"][0]}, "data": {"train": "support-data-2@1"},
        "lora": {"r": 8, "alpha": 16}, "training": TRAINING, **spec,
    }  # fmt: skip
    body["training"] = {key: value for key, value in TRAINING.items() if key != "eval_every"}
    assert trained.admin.post("/api/v1/jobs", json={"spec": body}).status_code == 201
    assert follow(trained, "support-bot-2")["adapter"] == "support-bot@v2"
    publish(trained, "support-bot", 2, 0.5)
    said = {ask(trained, "support-bot") for _ in range(40)}
    assert said == {"Support here, how can I help?", "Desk two at your service."}
    began = time.monotonic()
    assert trained.admin.post("/api/v1/adapters/support-bot/rollback").status_code == 200
    eventually(lambda: {ask(trained, "support-bot") for _ in range(10)} == {"Support here, how can I help?"}, 10)
    assert time.monotonic() - began < 10
    assert ask(trained, "support-bot@v2") == "Desk two at your service.", "under its own name it is still there"


def test_from_a_file_to_an_adapter_that_answers(workshop: Stack, page: Page, tmp_path: Path) -> None:
    needs_recipes()
    console = Console(page, workshop.console_url)
    console.open("/datasets")
    workshop.sign_in(page)
    console.open("/datasets")
    page.locator("[data-test=create-dataset]").first.click()
    page.get_by_role("dialog").get_by_label("Name").fill("counter-dialogues")
    page.locator("[data-test=save-dataset]").click()
    file = tmp_path / "counter.jsonl"
    file.write_bytes(dialogues("Ticket counter, good day.") + b'{"messages": []}\n')
    page.locator("[data-test=file]").set_input_files(file)
    expect(page.get_by_text("33 rows")).to_be_visible(timeout=30_000)
    expect(page.locator("dl")).to_contain_text("Accepted32")
    page.locator(".el-radio-button", has_text="Rejected").click()
    expect(page.locator("ol li").first).to_contain_text("Line 33")

    console.open("/jobs/new")
    page.get_by_label("Name", exact=True).fill("counter")
    page.locator("[data-test=train]").click()
    page.get_by_role("option", name="counter-dialogues@1").click()
    page.get_by_text("Try it", exact=True).click()
    page.get_by_text("Training", exact=True).click()
    for label, value in (("Learning rate", "0.005"), ("At most … steps", "60"), ("Micro-batch", "4")):
        page.get_by_label(label, exact=True).fill(value)
        page.get_by_label(label, exact=True).press("Tab")
    expect(page.locator(".tiles")).to_contain_text("60")
    page.locator("[data-test=start-job]").click()
    state = page.locator("[data-test=job-state]")
    expect(state).to_have_text("Succeeded", timeout=120_000)
    expect(page.locator("canvas").first).to_be_visible()
    expect(page.locator("[data-test=log]")).to_contain_text("loss")
    page.get_by_role("link", name="counter@v1").click()
    page.get_by_role("button", name="Publish").click()
    page.locator("[data-test=publish]").click()
    expect(page.get_by_text("100% of the requests")).to_be_visible(timeout=60_000)
    assert ask(workshop, "counter", "Who are you?") == "Ticket counter, good day."
