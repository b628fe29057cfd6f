"""A run: its folder, the events that it tells, and how it ends.

run.json        what it is told (`RunFile`)
events.jsonl    what it tells (`trainer.contract.events`), flushed line by line: the truth about it
STOP            its presence asks for a checkpoint and the end
checkpoints/    states from which it goes on
adapter/        what comes out of it
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import BaseModel, ConfigDict

from trainer.contract.events import Failure, Finished, Metrics, Phase, Sample, Started, Warned
from trainer.contract.spec import JobSpec
from trainer.recipes.common import checkpoints

EVENTS, STOP, CHECKPOINTS, OUTPUT = "events.jsonl", "STOP", "checkpoints", "adapter"


class Tracking(BaseModel):
    """Who hears of the figures besides `events.jsonl`. A tracker never fails a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    swanlab: str = "disabled"
    """disabled, local, offline, cloud or self-hosted."""
    swanlab_host: str = ""
    """Of a self-hosted server."""
    swanlab_dir: str = ""
    """Where its files are kept; empty: in the run's folder."""
    project: str = "tunegate"
    tensorboard: bool = True


class RunFile(BaseModel):
    """`run.json`: everything that a recipe is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: JobSpec
    train: Path
    """Rows, as `trainer.data.check` writes them; of `merge` and `evaluate` the adapter's folder."""
    validation: Path | None = None
    evaluation: Path | None = None
    """Questions of the spec's `eval`."""
    base_sha256: str = ""
    """Of the weights on which an adapter that is there already was trained, where that is known."""
    resume: bool = False
    tracking: Tracking = Tracking()


class Refused(Exception):
    """The run cannot go on: why, for people, and of which kind that is."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class Run:
    """One run in its folder. Of several processes the first one tells, the others are silent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = RunFile.model_validate_json((folder / "run.json").read_text(encoding="utf-8"))
        self.spec = self.file.spec
        self.rank = int(os.environ.get("RANK", "0"))
        self.processes = int(os.environ.get("WORLD_SIZE", "1"))
        self.latest: dict[str, float] = {}
        self.step = 0
        self._events = _appending(folder / EVENTS) if self.is_first else None

    @property
    def is_first(self) -> bool:
        """Whether this process tells of the run."""
        return self.rank == 0

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / CHECKPOINTS

    @property
    def output(self) -> Path:
        """Folder of what comes out."""
        return self.folder / OUTPUT

    def asked_to_stop(self) -> bool:
        """Whether somebody wants the run to end."""
        return (self.folder / STOP).exists()

    def tell(self, event: BaseModel) -> None:
        """Write an event; it is on its way to the disk before this returns."""
        if self._events is not None:
            self._events.write(event.model_dump_json() + "\n")
            self._events.flush()

    def started(self, **facts: Any) -> None:
        """The first step is about to be computed."""
        self.tell(Started(at=time.time(), processes=self.processes, **facts))

    def measured(self, step: int, values: dict[str, float]) -> None:
        """Figures of a step."""
        self.step = max(self.step, step)
        self.latest.update(values)
        self.tell(Metrics(at=time.time(), step=step, values=values))

    def said(self, step: int, prompt: str, text: str) -> None:
        """What the model answered to one of the spec's prompts."""
        self.tell(Sample(at=time.time(), step=step, prompt=prompt, text=text))

    def warn(self, message: str) -> None:
        """Something that does not stop the run."""
        self.tell(Warned(at=time.time(), message=message[:2000]))

    def enters(self, phase: Literal["keep", "evaluate"]) -> None:
        """What it does from now on."""
        self.tell(Phase(at=time.time(), name=phase))

    def finished(self, outcome: str, **more: Any) -> None:
        """The last line."""
        ended = Finished(at=time.time(), outcome=outcome, step=self.step, metrics=self.latest, **more)  # type: ignore[arg-type]
        self.tell(ended)


def main(recipe: Callable[[Run], None]) -> int:
    """Run a recipe in the folder that the command line names; the exit status."""
    run = Run(Path(sys.argv[1]).absolute())
    try:
        recipe(run)
    except BaseException as exc:  # noqa: BLE001 - whatever it was, it is told, and then the process ends
        traceback.print_exc()
        failure, message = classified(exc)
        if failure == "disk" and run.is_first:
            checkpoints.last_good(run.checkpoints)  # half of one makes room for the last line
        run.finished("failed", failure=failure, message=message[:2000])
        return 1
    return 0


def classified(exc: BaseException) -> tuple[Failure, str]:
    """What kind of failure an exception is, in words for people."""
    text = f"{type(exc).__name__}: {exc}"
    if isinstance(exc, Refused):
        return exc.failure, str(exc)
    if isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError" or _says_out_of_memory(str(exc)):
        return "oom", _memory(text)
    if (isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)) or _says_disk_full(str(exc)):
        return "disk", f"the disk of the worker is full: {text}"
    if isinstance(exc, KeyboardInterrupt):
        return "infra", "interrupted"
    return "unknown", text


def _says_out_of_memory(text: str) -> bool:
    lowered = text.lower()
    return "out of memory" in lowered or "can't allocate memory" in lowered or "cannot allocate memory" in lowered


def _says_disk_full(text: str) -> bool:
    """Libraries that write by themselves raise what they like; the last one is torch.save's."""
    return any(
        words in text for words in ("No space left on device", "StorageFull", "Disk quota exceeded", "unexpected pos")
    )


def _memory(text: str) -> str:
    import torch  # noqa: PLC0415 - only where there is something to tell of

    if not torch.cuda.is_available():
        return text
    free, total = torch.cuda.mem_get_info()
    peak = torch.cuda.max_memory_allocated()
    return f"{peak >> 20} MiB were used at the peak, {free >> 20} of {total >> 20} MiB are free: {text}"


def _appending(path: Path) -> TextIO:
    """The file opened to append to; half a line of a run that was killed is taken off."""
    file = path.open("a+b")
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    whole = sum(len(line) for line in file if line.endswith(b"\n"))
    if whole < size:
        file.truncate(whole)
    return io.TextIOWrapper(file, encoding="utf-8")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a checked dataset."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
