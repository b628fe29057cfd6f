"""A real gateway process for a test: started from a configuration, watched, called, stopped or killed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.fakes.http import Connection, Response, once

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-tg-blackbox-0123456789abcdefghijklmnopqrstuv"
Config = dict[str, Any]
T = TypeVar("T")


def digest(secret: str) -> str:
    """What a key record holds of its secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def eventually(what: Callable[[], T], within: float = 10.0, message: str = "") -> T:
    """The first truthy value, or a failure when the time is over."""
    end = time.monotonic() + within
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(message or f"not true within {within} s; last value: {value!r}")
        time.sleep(0.01)


def toml(config: Config) -> str:
    """A configuration as TOML: tables and arrays of tables at the top, everything below inline."""

    def value(item: object) -> str:
        if isinstance(item, bool):
            return "true" if item else "false"
        if isinstance(item, int | float):
            return repr(item)
        if isinstance(item, datetime):
            return item.isoformat()
        if isinstance(item, dict):
            return "{ " + ", ".join(f"{json.dumps(k)} = {value(v)}" for k, v in item.items()) + " }"
        if isinstance(item, list | tuple):
            return "[" + ", ".join(value(v) for v in item) + "]"
        return json.dumps(str(item), ensure_ascii=False)

    lines: list[str] = []
    for name, content in config.items():
        for table in content if isinstance(content, list) else [content]:
            lines.append(f"[[{name}]]" if isinstance(content, list) else f"[{name}]")
            lines += [f"{key} = {value(item)}" for key, item in table.items() if item is not None]
            lines.append("")
    return "\n".join(lines)


def endpoint(url: str, name: str = "up", **more: Any) -> Config:
    """An endpoint of the fake upstream, with time-outs that suit a test."""
    timeouts = {"connect": 2.0, "first_byte": 10.0, "idle": 10.0, "total": 30.0} | more.pop("timeouts", {})
    return {"name": name, "provider": "openai", "base_url": url, "timeouts": timeouts, **more}


def route(name: str, *targets: str | Config, **more: Any) -> Config:
    """A route; a target is `endpoint` or `endpoint/model` or a table. No retries, no breaker unless asked."""
    tables = []
    for item in targets or ("up",):
        if isinstance(item, str):
            place, _, model = item.partition("/")
            model = model or ("" if name.endswith("*") else name)
            tables.append({"endpoint": place, **({"model": model} if model else {})})
        else:
            tables.append(item)
    base: Config = {"retry": {"max_attempts": 1}, "breaker": {"failures": 1000}}
    return {"name": name, **base, **more, "target": tables}


def key(name: str, secret: str = KEY, **more: Any) -> Config:
    """A key record."""
    return {"name": name, "sha256": digest(secret), **more}


class Gateway:
    """One process. `config` may leave out everything but endpoints and routes."""

    def __init__(self, config: Config, folder: Path, *, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.file = folder / "config.toml"
        self.env = env or {}
        self.url = ""
        self.log_lines: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self.write(config)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def complete(self, config: Config) -> Config:
        """The configuration with the parts that every test needs."""
        full = {
            "gateway": {"listen": "127.0.0.1:0", "data_dir": str(self.data), **config.get("gateway", {})},
            "telemetry": {"access_log": "all", **config.get("telemetry", {})},
            **{k: v for k, v in config.items() if k not in ("gateway", "telemetry")},
        }
        if "control" not in config:
            full.setdefault("key", [key("tester")])
        return full

    def write(self, config: Config) -> None:
        """Write the configuration, in one step as an editor does; a running gateway reloads it."""
        self.config = self.complete(config)
        self.write_text(toml(self.config))

    def write_text(self, text: str) -> None:
        """Write any text as the configuration file."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)

    def start(self) -> Self:
        """Start the process and wait until it listens."""
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(self.file)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), **self.env}
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.url = ""
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        process = self.process
        eventually(lambda: self.url or process.poll() is not None, 20, "the gateway does not listen")
        if not self.url:
            self._reader.join(2)
            raise AssertionError("the gateway ended at start:\n" + "\n".join(self.log_lines[-30:]))
        return self

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as pipe:
            for line in pipe:
                text = line.decode(errors="replace").rstrip("\n")
                self.log_lines.append(text)
                if '"gateway.listening"' in text:
                    self.url = json.loads(text)["url"].rstrip("/")

    @property
    def pid(self) -> int:
        """Process id."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, within: float = 15.0) -> int:
        """Ask it to stop, and wait for that; its exit status."""
        process = self.process
        if process is None:
            return 0
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(within)
            except subprocess.TimeoutExpired:
                self.kill9()
                raise AssertionError(f"the gateway did not stop within {within} s") from None
        self._finish()
        return process.returncode

    def kill9(self) -> None:
        """Kill the process and its children at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._finish()

    def _finish(self) -> None:
        self.process = None
        if self._reader is not None:
            self._reader.join(5)

    # ---- calls ----

    def call(
        self, method: str, path: str, body: bytes | None = None, *, secret: str | None = KEY, **headers: str
    ) -> Response:
        """One request on a connection of its own; header names with `_` for `-`."""
        fields = {k.replace("_", "-"): v for k, v in headers.items()}
        if secret is not None:
            fields.setdefault("authorization", f"Bearer {secret}")
        return once(self.url, method, path, body, fields)

    def chat(self, model: str, *, secret: str | None = KEY, rid: str | None = None, **fields: Any) -> Response:
        """A chat request; `headers` may be among the fields. It carries a new x-request-id."""
        headers = fields.pop("headers", {})
        body = json.dumps(chat_request(model, **fields)).encode()
        return self.call(
            "POST",
            "/v1/chat/completions",
            body,
            secret=secret,
            **{"x_request_id": rid or new_id(), **headers},
        )

    def open(
        self,
        model: str,
        rid: str,
        *,
        secret: str = KEY,
        path: str = "/v1/chat/completions",
        timeout: float = 10.0,
        **fields: Any,
    ) -> Connection:
        """Send a chat request and leave the reply to the test."""
        conn = Connection(self.url, timeout=timeout)
        headers = {"authorization": f"Bearer {secret}", "x-request-id": rid}
        conn.request("POST", path, json.dumps(chat_request(model, **fields)).encode(), headers)
        return conn

    # ---- what it says ----

    def ledger(self) -> list[dict[str, Any]]:
        """Every row of the ledger so far."""
        rows = []
        for file in sorted((self.data / "usage").rglob("*.jsonl")):
            for line in file.read_text().splitlines(keepends=True):
                if line.endswith("\n"):  # the last line may be half written at this moment
                    rows.append(json.loads(line))
        return rows

    def rows(self, rid: str) -> list[dict[str, Any]]:
        """Ledger rows of one request."""
        return [r for r in self.ledger() if rid in (r["request_id"], r["id"])]

    def row(self, rid: str, within: float = 2.0) -> dict[str, Any]:
        """The ledger row of one request; fails if there is none, or more than one."""
        rows = eventually(lambda: self.rows(rid), within, f"no ledger row for {rid} within {within} s")
        assert len(rows) == 1, rows
        return rows[0]

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics by their full name."""
        reply = once(self.url, "GET", "/metrics")
        assert reply.status == 200, reply
        samples = {}
        for line in reply.body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, number = line.rpartition(" ")
                samples[name] = float(number)
        return samples

    def metric(self, pattern: str) -> float:
        """Sum of the samples whose full name matches."""
        return sum(v for k, v in self.metrics().items() if re.search(pattern, k))

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The JSON lines of the log so far."""
        found = []
        for line in tuple(self.log_lines):
            try:
                item = json.loads(line)
            except ValueError:
                continue
            if isinstance(item, dict) and name in (None, item.get("event")):
                found.append(item)
        return found


def new_id() -> str:
    """A request id that no other request has."""
    return f"test-{uuid.uuid4().hex}"


def chat_request(model: str, **fields: Any) -> Config:
    """The body of a small chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "Say hello to the world"}], **fields}
