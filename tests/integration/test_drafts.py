"""A route before it goes live: its comparisons go through a real gateway, and nobody else reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import Gateway, eventually
from tests.fakes.plane import Plane
from tests.fakes.upstream import Upstream
from tests.fakes.wire import Usage
from tests.processes import free_port

CASES = 12


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    """Control whose runs go to the gateway."""
    plane = Plane(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/control/tunegate.db")
    text = plane.config.read_text()
    plane.config.write_text(text.replace("[database]", f'gateway_url = "http://127.0.0.1:{free_port()}"\n[database]'))
    with plane:
        yield plane


@pytest.fixture
def gateway(plane: Plane, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that runs from control."""
    listen = plane.config.read_text().partition('gateway_url = "http://')[2].partition('"')[0]
    table = {"url": plane.url, "token": "env:SERVICE_TOKEN"}
    (tmp_path / "g").mkdir()
    config = {"gateway": {"listen": listen}, "control": table}
    with Gateway(config, tmp_path / "g", env={"SERVICE_TOKEN": plane.service_token}) as running:
        yield running


def asked(gateway: Gateway, secret: str, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Who are you?"}]}
    return httpx.post(
        f"{gateway.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {secret}"}, timeout=20
    )


def listed(gateway: Gateway, secret: str) -> set[str]:
    found = httpx.get(f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {secret}"}, timeout=20).json()
    return {one["id"] for one in found["data"]}


def routed(plane: Plane, upstream: Upstream) -> None:
    """The route `chat`, what it falls back to, and a draft of another chat with a limit of its own."""
    plane.post("/endpoints", name="up", provider="openai", spec={"base_url": f"{upstream.url}/v1"})
    plane.post("/endpoints/up/credentials", name="main", secret="sk-upstream-secret-0123456789")
    grants = [{"principal_kind": "everyone"}]
    for name, more in (
        ("chat", {}), ("spare", {}), ("next", {"fallback": "spare", "limits": {"rpm": CASES - 4}, "aliases": ["soon"],
                           "retry": {"max_attempts": 1}}),
    ):  # fmt: skip
        spec = {"target": [{"endpoint": "up", "model": name}], "price": {"input": "1000", "output": "1000"}, **more}
        plane.post("/routes", name=name, spec=spec, grants=grants, draft=name == "next")


@pytest.mark.timeout(120)
def test_a_draft_is_asked_by_comparisons_alone_and_by_all_once_it_is_live(
    plane: Plane, gateway: Gateway, upstream: Upstream
) -> None:
    for model, says in (("chat", "yes"), ("spare", "yes, indeed")):
        upstream.on(model, scripts.chat([says], Usage(20, 5)))
    withheld = wire.chat_body("no", Usage(20, 5).openai(), "next").replace(b'"stop"', b'"content_filter"')
    assert b"content_filter" in withheld
    upstream.on("next", scripts.reply(withheld))
    upstream.queue("next", *[scripts.error(500, "down")] * 3)
    routed(plane, upstream)
    secret = plane.post("/keys", name="app")["secret"]
    eventually(lambda: asked(gateway, secret, "chat").status_code == 200, 5)
    for name in ("next", "soon"):
        answer = asked(gateway, secret, name)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found"), answer.text
        assert httpx.get(
            f"{gateway.url}/v1/models/{name}", headers={"authorization": f"Bearer {secret}"}, timeout=20
        ).status_code == 404  # fmt: skip
    assert listed(gateway, secret) == {"chat", "spare"}
    assert not upstream.of("next")
    before = len(upstream.of("chat"))

    plane.post("/suites", name="traffic")
    cases = [{"messages": [{"role": "user", "content": f"q{n}"}], "expected": "yes"} for n in range(CASES)]
    plane.post(
        "/suites/traffic/versions", prompts=[{"name": "logged", "messages": []}],
        scorers=[{"name": "yes", "kind": "contains"}], sources=[{"kind": "cases", "cases": cases}],
    )  # fmt: skip
    candidates = [{"route": "chat"}, {"route": "next"}]
    run = plane.post("/suites/traffic/runs", candidates=candidates, concurrency=1, tries=1, stream=False)
    eventually(lambda: plane.get(f"/runs/{run['id']}")["state"] in ("done", "partial", "paused"), 60)
    live, draft = plane.get(f"/runs/{run['id']}/report")["candidates"]
    assert (live["answered"], live["refused"]["value"], live["limited"]["value"]) == (CASES, 0.0, 0.0)
    allowed = CASES - 4
    assert (draft["answered"], draft["failed"]) == (allowed, 4), "its own limit holds"
    assert draft["errors"] == {"rate_limit_exceeded": 4}
    assert draft["limited"]["value"] == pytest.approx(4 / CASES)
    assert 0 < draft["limited"]["low"] < 4 / CASES < draft["limited"]["high"] < 1
    assert draft["finish_reasons"] == {"content_filter": allowed - 3, "stop": 3}, "its fallback has answered thrice"
    assert draft["refused"]["value"] == pytest.approx((allowed - 3) / CASES)
    assert len(upstream.of("spare")) == 3
    assert len(upstream.of("chat")) - before == CASES

    version = plane.get("/routes/next")["row_version"]
    assert plane.patch("/routes/next", row_version=version, draft=False)["draft"] is False
    eventually(lambda: asked(gateway, secret, "next").status_code != 404, 5)
    assert "next" in listed(gateway, secret)
