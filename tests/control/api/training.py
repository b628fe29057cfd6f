"""A worker that does what a test says, over the internal API, and datasets for its jobs."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

import httpx2 as httpx

from tests.control.api.conftest import Running

CPU = [{"index": n, "uuid": f"cpu-{n}", "name": "cpu", "memory_mib": 4096} for n in range(2)]
ROWS = [
    {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n}"}]}
    for n in range(8)
]


def spec(name: str = "support-bot", **changes: Any) -> dict[str, Any]:
    """A job over `dialogues@1`."""
    return {
        "name": name, "recipe": "lora_sft", "base": {"id": "/models/tiny"}, "data": {"train": "dialogues@1"},
        "lora": {"r": 4, "alpha": 8}, "training": {"micro_batch": 4, "accumulation": 2}, **changes,
    }  # fmt: skip


def dataset(client: httpx.Client, name: str = "dialogues", rows: Sequence[Any] = ROWS, **body: Any) -> int:
    """A dataset whose next version is ready, through the API; the version's number."""
    answer = client.post("/api/v1/datasets", json={"name": name, **body})
    assert answer.status_code in (201, 409), answer.text
    number = begun(client, name)
    content = "\n".join(json.dumps(row) for row in rows).encode() + b"\n"
    sent(client, name, number, content)
    assert (version := checked(client, name, number))["state"] == "ready", version
    return number


def begun(client: httpx.Client, name: str, filename: str = "rows.jsonl", format: str = "auto") -> int:
    answer = client.post(f"/api/v1/datasets/{name}/versions", json={"filename": filename, "format": format})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["number"])


def sent(client: httpx.Client, name: str, number: int, content: bytes) -> None:
    path = f"/api/v1/datasets/{name}/versions/{number}"
    assert client.put(f"{path}/content", content=content).json() == {"size": len(content)}
    answer = client.post(f"{path}/check", json={"size": len(content)})
    assert answer.status_code == 200, answer.text


def checked(client: httpx.Client, name: str, number: int) -> dict[str, Any]:
    """The version, once it is checked."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        version: dict[str, Any] = client.get(f"/api/v1/datasets/{name}/versions/{number}").json()
        if version["state"] in ("ready", "rejected"):
            return version
        time.sleep(0.1)
    raise AssertionError(f"{name}@{number} is not checked: {version}")


class Worker:
    """A worker at a control plane."""

    def __init__(self, control: Running, name: str = "w1", devices: list[dict[str, Any]] | None = None) -> None:
        self.client = control.service()
        self.name = name
        self.status: dict[str, Any] = {
            "worker": name, "boot": "1", "version": "0", "recipes": ["lora_sft", "full_sft"],
            "devices": CPU if devices is None else devices, "attempts": [], "engines": [],
        }  # fmt: skip
        self.lines: dict[str, int] = {}

    def sync(self, *attempts: dict[str, Any]) -> dict[str, Any]:
        """A heartbeat with these attempts; the orders."""
        answer = self.client.post("/internal/v1/trainer/sync", json={**self.status, "attempts": attempts})
        assert answer.status_code == 200, answer.text
        orders: dict[str, Any] = answer.json()
        return orders

    def take(self) -> str:
        """The one attempt that it is told to start."""
        (order,) = self.sync()["start"]
        return str(order["attempt"])

    def tell(self, attempt: str, *events: dict[str, Any]) -> httpx.Response:
        """Lines of a run."""
        first = self.lines.get(attempt, 0)
        lines = [{"at": 1_800_000_000.0 + first + n, **event} for n, event in enumerate(events)]
        answer = self.client.post(
            f"/internal/v1/trainer/attempts/{attempt}/events", json={"first": first, "lines": lines}
        )
        if answer.status_code == 200:
            self.lines[attempt] = answer.json()["next"]
        return answer

    def put(self, attempt: str, path: str, content: bytes, sha256: str = "") -> httpx.Response:
        """A file of the adapter."""
        headers = {"x-sha256": sha256 or hashlib.sha256(content).hexdigest()}
        return self.client.put(
            f"/internal/v1/trainer/attempts/{attempt}/files/{path}", content=content, headers=headers
        )

    def finish(self, attempt: str, outcome: str = "completed", exit_status: int = 0, **more: Any) -> dict[str, Any]:
        """Tell of the end, and report it."""
        assert self.tell(attempt, {"kind": "finished", "outcome": outcome, **more}).status_code == 200
        return self.sync({"attempt": attempt, "state": "ended", "exit_status": exit_status})


def at(attempt: str, state: str = "running") -> dict[str, Any]:
    """What a worker says of an attempt."""
    return {"attempt": attempt, "state": state}


STARTED = {"kind": "started", "total_steps": 10, "device": "cpu"}
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}


def weights(seed: int = 0) -> bytes:
    """A whole safetensors file with a LoRA matrix."""
    header = json.dumps({"base.lora_A.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + seed.to_bytes(4, "little")


def trained(control: Running, client: httpx.Client, worker: Worker, name: str = "support-bot", **details: Any) -> None:
    """A job of this name that succeeded."""
    body = {"spec": spec(name)}
    assert client.post("/api/v1/jobs", json=body).status_code == 201
    attempt = worker.take()
    worker.tell(attempt, STARTED)
    assert worker.put(attempt, "adapter_model.safetensors", weights()).status_code == 204
    assert worker.put(attempt, "adapter_config.json", json.dumps(CONFIG).encode()).status_code == 204
    worker.finish(attempt, metrics={"eval_loss": 0.5}, step=10, details=details)
    assert client.get(f"/api/v1/jobs/{name}").json()["state"] == "succeeded"
