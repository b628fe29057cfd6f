"""One attempt of a job on this worker, from its order to its end: rows fetched, recipe run, all that it tells sent on.

Everything that must outlive the worker is in the attempt's folder, so that after a restart it goes on where it was.

    jobs/JOB/checkpoints/        of all attempts of a job
    jobs/JOB/ATTEMPT/order.json  what control wants; `order.left.json` once it does not know of it any more
    jobs/JOB/ATTEMPT/…           the run's folder (`trainer.recipes.common.run`)
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer import log
from trainer.client import Client, Over, TooLarge, Unreachable, WrongOffset
from trainer.contract.worker import AttemptOrder, AttemptState, AttemptStatus
from trainer.runners.base import Command, Runner, Unavailable
from trainer.tracing import Phase, Tracer

TICK = 0.5
"""Seconds between looks at a run."""
LINES = 500
LOG_PIECE = 1 << 20
ENOUGH = 1 << 30
"""Bytes that must be free on the disk before a run is begun."""


class Attempt:
    """Follows one attempt in a thread of its own."""

    def __init__(
        self,
        order: AttemptOrder,
        root: Path,
        client: Client,
        runner: Runner,
        tracking: dict[str, Any],
        tracer: Tracer | None,
    ) -> None:
        self.order = order
        self.folder = root / "jobs" / order.job / order.attempt
        self._root, self._client, self._runner, self._tracking = root, client, runner, tracking
        self._tracer = tracer
        self._state: AttemptState = "preparing"
        self._exit_status: int | None = None
        self._failure = ""
        self._stop_after: float | None = None
        self._line, self._offset, self._sent = 0, 0, 0
        self._log_is_full = False
        self._thread = threading.Thread(target=self._run, name=f"attempt-{order.attempt}", daemon=True)

    @classmethod
    def found(
        cls, root: Path, client: Client, runner: Runner, tracking: dict[str, Any], tracer: Tracer | None
    ) -> list[Attempt]:
        """Attempts that an earlier life of this worker has left, and nobody told it to forget."""
        orders = [AttemptOrder.model_validate_json(path.read_text()) for path in root.glob("jobs/*/*/order.json")]
        return [cls(order, root, client, runner, tracking, tracer) for order in orders]

    def start(self) -> None:
        """Begin, or go on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "order.json.partial"
        partial.write_text(self.order.model_dump_json(), encoding="utf-8")
        partial.replace(self.folder / "order.json")
        self._thread.start()

    @property
    def status(self) -> AttemptStatus:
        """For the heartbeat."""
        return AttemptStatus(
            attempt=self.order.attempt, state=self._state, exit_status=self._exit_status, failure=self._failure
        )

    def stop(self, grace: float) -> None:
        """Ask for the end with a checkpoint, and see to it after `grace` seconds."""
        deadline = time.monotonic() + grace
        self._stop_after = min(deadline, self._stop_after or deadline)
        if self.folder.exists():
            self._runner.request_stop(self.folder)

    def forget(self) -> None:
        """Control has its end: the run's folder goes. Checkpoints stay for a next attempt until the job is over."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def leave(self) -> None:
        """Control does not know its job: all stays as it is, but a next life of this worker does not follow it."""
        order = self.folder / "order.json"
        if order.exists():
            order.replace(self.folder / "order.left.json")

    def join(self, seconds: float) -> None:
        """Wait for its thread."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            if not (self.folder / "launcher.json").exists():
                self._enter("prepare")
                self._prepare()
            self._state = "running"
            self._enter("run")
            self._follow()
            self._state = "finalizing"
            self._enter("upload")
            self._send_output()
        except Over as exc:
            log.event("attempt.over", level="warning", attempt=self.order.attempt, cause=str(exc))
            self._runner.kill(self.folder, 0.0)
        except Exception as exc:  # noqa: BLE001 - whatever it was, control is told, and the worker goes on
            self._failure = f"{type(exc).__name__}: {exc}"
            log.event("attempt.failed", level="error", attempt=self.order.attempt, cause=self._failure)
            self._runner.kill(self.folder, 0.0)
        self._trace()
        self._state = "ended"

    def _enter(self, phase: Phase) -> None:
        self._traced(lambda tracer: tracer.enter(self.order, self.folder, phase))

    def _trace(self) -> None:
        def tell(tracer: Tracer) -> None:
            ended = _last(self.folder / "events.jsonl")
            good = ended.get("outcome") in ("completed", "stopped")
            tracer.tell(self.order, self.folder, "" if good else str(ended.get("failure") or "unknown"))

        self._traced(tell)

    def _traced(self, tell: Callable[[Tracer], None]) -> None:
        try:
            if self._tracer is not None:
                tell(self._tracer)
        except (OSError, ValueError) as exc:  # spans are not worth the attempt
            log.event("attempt.not_traced", level="warning", attempt=self.order.attempt, cause=str(exc))

    def _prepare(self) -> None:
        free = shutil.disk_usage(self._root).free
        if free < ENOUGH:
            raise OSError(f"only {free >> 20} MiB are free on the worker's disk, and a run needs {ENOUGH >> 20}")
        checkpoints = self.folder.parent / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "checkpoints").exists():
            (self.folder / "checkpoints").symlink_to("../checkpoints", target_is_directory=True)
        data: dict[str, Path] = {one.split: self._root / "data" / f"{one.sha256}.jsonl" for one in self.order.data}
        for one in self.order.data:
            if not data[one.split].exists():
                self._patiently(
                    lambda one=one: self._client.get_data(one.version, one.split, data[one.split], one.sha256)
                )
        if (adapter := self.order.adapter) is not None:
            data["train"] = self.folder / "source"
            self._patiently(lambda: self._client.get_adapter(adapter, data["train"]))
        run = {
            "spec": self.order.spec.model_dump(mode="json"), "train": str(data["train"]),
            "validation": str(data["validation"]) if "validation" in data else None, "resume": self.order.resume,
            "evaluation": str(data["evaluation"]) if "evaluation" in data else None,
            "tracking": self._tracking, "base_sha256": adapter.base_sha256 if adapter is not None else "",
        }  # fmt: skip
        (self.folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
        spec = self.order.spec
        command = Command(
            recipe=spec.recipe, folder=self.folder, processes=spec.resources.processes, devices=self.order.devices,
            offline=spec.base.source == "path", nodes=spec.resources.nodes,
        )  # fmt: skip
        self._patiently(lambda: self._runner.submit(command))
        if self._stop_after is not None:  # it was asked to end while it was prepared
            self._runner.request_stop(self.folder)

    def _follow(self) -> None:
        while True:
            status = self._runner.poll(self.folder)
            try:
                while self._send_some():
                    pass
            except Unreachable as exc:
                if not status.running:
                    log.event("attempt.waits", level="warning", attempt=self.order.attempt, cause=str(exc))
            else:
                if not status.running:
                    self._exit_status = status.exit_status
                    return
            if self._stop_after is not None and time.monotonic() > self._stop_after and status.running:
                self._runner.kill(self.folder, 0.0)
            time.sleep(TICK)

    def _send_some(self) -> bool:
        """Send lines and log that are new; whether there is more at once."""
        again = False
        lines, position = _lines(self.folder / "events.jsonl", self._sent, LINES)
        if lines:
            taken = self._client.events(self.order.attempt, self._line, lines)
            if taken == self._line:
                raise Unreachable(f"control does not take line {taken}")
            if taken != self._line + len(lines):  # after a restart of either side: go on from where control is
                position, again = _position(self.folder / "events.jsonl", taken), True
            self._line, self._sent = taken, position
        piece = b"" if self._log_is_full else _read(self.folder / "log.txt", self._offset, LOG_PIECE)
        if piece:
            self._send_log(piece)
        return again or len(lines) == LINES or len(piece) == LOG_PIECE

    def _send_log(self, piece: bytes) -> None:
        try:
            self._offset = self._client.log(self.order.attempt, self._offset, piece)
        except WrongOffset:
            self._offset = 0
        except TooLarge as exc:  # the run is worth more than the rest of its log
            self._log_is_full = True
            log.event("attempt.log_cut", level="warning", attempt=self.order.attempt, cause=str(exc))

    def _send_output(self) -> None:
        """The files of what came out, if it has come out whole."""
        ended = _last(self.folder / "events.jsonl")
        if ended.get("kind") != "finished" or ended.get("outcome") != "completed":
            return
        if not ended["output"]:  # of an evaluation nothing comes out but figures
            return
        output = self.folder / str(ended["output"])
        for path in sorted(path for path in output.rglob("*") if path.is_file()):
            name = str(path.relative_to(output))
            self._patiently(lambda name=name, path=path: self._client.put_file(self.order.attempt, name, path))

    def _patiently(self, work: Any) -> None:
        pause = 1.0
        while True:
            try:
                work()
                return
            except (Unreachable, Unavailable) as exc:
                log.event("attempt.waits", level="warning", attempt=self.order.attempt, cause=str(exc))
                if self._stop_after is not None and time.monotonic() > self._stop_after:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, 30.0)


def _lines(path: Path, position: int, most: int) -> tuple[list[dict[str, Any]], int]:
    """Whole lines from a position in bytes on, and where the next one begins. Half a line is left for later."""
    if not path.exists():
        return [], position
    found: list[dict[str, Any]] = []
    with path.open("rb") as file:
        file.seek(position)
        while len(found) < most and (line := file.readline()).endswith(b"\n"):
            position += len(line)
            found.append(json.loads(line))
    return found, position


def _position(path: Path, line: int) -> int:
    """Where a line begins."""
    with path.open("rb") as file:
        return sum(len(file.readline()) for _ in range(line))


def _read(path: Path, offset: int, size: int) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _last(path: Path) -> dict[str, Any]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return found
