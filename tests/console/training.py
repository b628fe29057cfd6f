"""Training in the filled installation: datasets, jobs in several states, an adapter that is published, engines."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np

from control.adapters.schemas import ScoreRule
from control.comparisons import sequential
from control.deployments import canary
from tests.control.api.conftest import Running
from tests.control.api.training import CONFIG, STARTED, Worker, begun, checked, sent, weights
from trainer.contract.evaluation import Evaluated, Side, accuracy

DEVICES = [
    {
        "index": n, "uuid": f"GPU-{n}", "name": "NVIDIA H100 80GB HBM3", "memory_mib": 81_559,
        "used_mib": [52_310, 18_204, 70_002, 4][n], "percent": 90 - 20 * n,
        "held_by": "engine qwen3-32b" if n == 2 else "",
    }
    for n in range(4)
]  # fmt: skip
ANSWER = "Your order has left the warehouse and arrives within two days. Is there anything else?"
BASE = "/models/Qwen3-32B"


def fill(control: Running) -> None:
    """Make all of it, through the API and as a worker."""
    _dataset(control)
    worker = Worker(control, "gpu-node-1", DEVICES)
    worker.status["recipes"] = ["lora_sft", "lora_dpo", "full_sft"]
    worker.status["engines"] = [_engine([])]
    _count(control, worker)
    _questions(control)
    _job(control, "support-bot", eval={"data": "support-quiz@1"})
    _finish(worker, worker.take(), 120)
    _job(control, "support-bot-lr", training={"learning_rate": 0.0001})
    running = worker.take()
    _tell(worker, running, 64, 0.8)
    _job(control, "support-bot-big", training={"micro_batch": 16, "accumulation": 1})
    (order,) = worker.sync({"attempt": running, "state": "running"})["start"]
    worker.tell(order["attempt"], {**STARTED, "total_steps": 120}, {
        "kind": "finished", "outcome": "failed", "failure": "data", "message": "row 17 has a tool call without a name",
    })  # fmt: skip
    worker.sync(
        {"attempt": running, "state": "running"}, {"attempt": order["attempt"], "state": "ended", "exit_status": 1}
    )
    _job(control, "summaries", resources={"processes": 3}, recipe="full_sft")
    control.admin.post("/api/v1/adapters/support-bot/versions/1/deploy", json={"share": 1.0})
    worker.status["engines"] = [_engine([{"name": "support-bot@v1", "state": "loaded"}])]
    worker.sync({"attempt": running, "state": "running"})
    _roll_out(control, worker, {"attempt": running, "state": "running"})


def _side(right: int) -> Side:
    return Side(plain=accuracy(right, 240), normalised=accuracy(right + 6, 240))


def _questions(control: Running) -> None:
    assert control.admin.post("/api/v1/datasets", json={"name": "support-quiz"}).status_code == 201
    rows = [
        {"question": f"How long may item {n} be returned?", "choices": ["14 days", "30 days"], "answer": "B"}
        for n in range(240)
    ]
    number = begun(control.admin, "support-quiz")
    sent(control.admin, "support-quiz", number, "".join(json.dumps(row) + "\n" for row in rows).encode())
    assert checked(control.admin, "support-quiz", number)["state"] == "ready"


def _count(control: Running, worker: Worker) -> None:
    """How long the rows are for a base model that no worker has, and for that of the jobs."""
    path = "/api/v1/datasets/support-dialogues/versions/1/tokens"
    bins = [{"to": 16 * n, "rows": round(60 * math.exp(-(((n - 9) / 4) ** 2)) + (n == 260))} for n in range(1, 261)]
    bins = [one for one in bins if one["rows"]]
    lengths = {
        "rows": sum(one["rows"] for one in bins), "total": sum(one["to"] * one["rows"] for one in bins),
        "min": 22, "p50": 148, "p95": 224, "max": 4153, "width": 16, "bins": bins,
    }  # fmt: skip
    for base, said in (("/models/gone", {"failure": "there is no such model"}), (BASE, {"lengths": lengths})):
        assert control.admin.post(path, json={"base": {"id": base}}).status_code == 202
        (order,) = worker.sync()["counts"]
        worker.status["counts"] = [{"count": order["count"], **said}]
        assert worker.sync()["counts"] == []
    worker.status["counts"] = []


def _roll_out(control: Running, worker: Worker, *attempts: dict[str, Any]) -> None:
    """A second version, uploaded, has a tenth of the requests."""
    path = "/api/v1/adapters/support-bot/versions"
    assert control.admin.post(path, json={"base": {"id": BASE}}).status_code == 201
    for name, content in (
        ("adapter_config.json", json.dumps(CONFIG).encode()),
        ("adapter_model.safetensors", weights()),
    ):
        assert control.admin.put(f"{path}/2/files/{name}", content=content).status_code == 204
    for step in ("complete", "deploy"):
        assert control.admin.post(f"{path}/2/{step}", json={}).status_code == 200
    ours = _engine([{"name": f"support-bot@v{n}", "state": "loaded"} for n in (1, 2)])
    worker.status["engines"] = [ours, _OUTSIDE, _AWAY]
    worker.sync(*attempts)
    assert control.admin.post(f"{path}/2/rollout", json={"max_latency_ratio": None}).status_code == 200
    score = ScoreRule(suite="support-questions", scorer="says it").model_dump(mode="json")
    control.sql("UPDATE rollout SET rule = json_set(rule, '$.score', json(?))", json.dumps(score))
    control.sql("UPDATE rollout SET score = ?", json.dumps(evidence("support-bot@v1")))


def evidence(against: str, samples: int = 180) -> dict[str, Any]:
    """What a rollout keeps of scores that have shown that a version is not worse."""
    drawn = np.random.default_rng(4).choice([-1.0, 0.0, 1.0], samples, p=[0.01, 0.95, 0.04]).tolist()
    points = sequential.points(drawn, 0.05, 0.05)
    assert sequential.decided(points, 0.05, 40) == "not_worse"
    return {
        "state": "not_worse", "against": against, "suite": "support-bot-canary", "run": None, "runs": [],
        "drawn": samples + 4, "left_out": 4, "after": "2026-11-24T09:30:00+00:00", "differences": drawn,
        "points": canary.thinned(points), "message": "",
    }  # fmt: skip


def _engine(adapters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "qwen3-32b", "base": "qwen3-32b", "model": BASE, "url": "http://10.1.2.3:8101", "state": "ready",
        "max_loras": 8, "max_lora_rank": 64, "adapters": adapters,
    }  # fmt: skip


_OUTSIDE = _engine([]) | {
    "name": "h100-cluster", "url": "https://vllm.example.com", "external": True, "model": "deepseek-ai/DeepSeek-V3",
    "latency_ms": 41.3, "models": ["deepseek-v3", "deepseek-v3-0324", *(f"team-{n}-tone@v2" for n in range(14))],
}  # fmt: skip
_AWAY = _engine([]) | {
    "name": "ollama-lab", "url": "http://10.4.0.7:11434/v1", "external": True, "model": "qwen3:8b", "state": "failed",
    "message": "the engine does not answer: [Errno 111] Connection refused",
}  # fmt: skip


def _dataset(control: Running) -> None:
    body = {"name": "support-dialogues", "description": "Answers of the help desk, 2026, first half"}
    assert control.admin.post("/api/v1/datasets", json=body).status_code == 201
    asked = [f"Where is order {number}?{' Please.' * (number % 40)}" for number in range(400)]
    rows: list[Any] = [_dialogue(question) for question in (*asked, "mail li.na@example.com")]
    rows += [rows[0], {"messages": []}, {"messages": [{"role": "user", "content": "?"}]}, {"text": "no dialogue"}]
    number = begun(control.admin, "support-dialogues")
    sent(control.admin, "support-dialogues", number, "".join(json.dumps(row) + "\n" for row in rows).encode())
    assert checked(control.admin, "support-dialogues", number)["state"] == "ready"


def _dialogue(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": ANSWER}]}


def _job(control: Running, name: str, **changes: Any) -> None:
    training = {"epochs": 3, "eval_every": 20, **changes.pop("training", {})}
    spec = {
        "name": name, "base": {"id": BASE}, "data": {"train": "support-dialogues@1", "validation_share": 0.1},
        "lora": {"r": 16, "alpha": 32}, "training": training, "prompts": ["Where is order 7?"], **changes,
    }  # fmt: skip
    answer = control.admin.post("/api/v1/jobs", json={"spec": spec})
    assert answer.status_code == 201, answer.text


def _tell(worker: Worker, attempt: str, steps: int, slower: float = 1.0) -> None:
    began = time.time() - 4 * steps
    events: list[dict[str, Any]] = [{**STARTED, "device": DEVICES[0]["name"], "total_steps": 120, "at": began}]
    for step in range(1, steps + 1):
        loss = 0.6 + 1.9 * math.exp(-slower * step / 30) + 0.06 * math.sin(step * 1.7)
        values = {
            "loss": loss, "learning_rate": 0.0002 * (1 - step / 120), "grad_norm": 0.4 + 2 / step,
            "tokens_per_second": 5200 + 150 * math.sin(step), "memory_mib": 52_000.0, "gpu_percent": 92.0,
        }  # fmt: skip
        events.append({"kind": "metrics", "step": step, "values": values, "at": began + 4 * step})
        if step % 20 == 0:
            measured = {"eval_loss": 0.7 + 1.8 * math.exp(-slower * step / 30)}
            events.append({"kind": "metrics", "step": step, "values": measured, "at": began + 4 * step})
            events.append({"kind": "checkpoint", "step": step, "folder": f"checkpoints/{step}", "size": 310_000_000})
            events.append({"kind": "sample", "step": step, "prompt": "Where is order 7?", "text": ANSWER})
    assert worker.tell(attempt, *events).status_code == 200
    log = "".join(f"step {step}: loss {0.6 + 2 / step:.4f}\n" for step in range(1, steps + 1)).encode()
    worker.client.post(f"/internal/v1/trainer/attempts/{attempt}/log", content=log)


def _finish(worker: Worker, attempt: str, steps: int) -> None:
    _tell(worker, attempt, steps)
    worker.put(attempt, "adapter_model.safetensors", weights())
    worker.put(attempt, "adapter_config.json", json.dumps(CONFIG).encode())
    details = {"evaluation": Evaluated(
        questions=240, cut=2, base=_side(131), result=_side(187), won=68, lost=12,
    ).model_dump(mode="json")}  # fmt: skip
    worker.finish(
        attempt, step=steps, details=details, metrics={"loss": 0.63, "eval_loss": 0.74, "tokens_per_second": 5230.0}
    )
