"""`python -m trainer.train SPEC.toml`: one training job on this machine, with no control plane.

The run's folder (`trainer.recipes.common.run`) has everything: checked rows, events, log, checkpoints, the adapter.
Ctrl-C asks for a checkpoint and the end; a second one does not wait for that. `--resume` goes on from the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import ValidationError

from trainer.contract import estimate, servable
from trainer.contract.spec import OF_AN_ADAPTER, ROWS_OF, JobSpec
from trainer.devices import devices
from trainer.progress import Progress
from trainer.runners.base import Command
from trainer.runners.local import STOP, LocalRunner
from trainer.settings import WorkerTable

SERVED_RANK = 64
"""Highest rank that engines are commonly started with; above it, a word is said."""
CHARACTERS_PER_TOKEN = 3
"""Roughly, before a tokenizer has seen the rows."""
LOOK = 0.2
"""Seconds between looks at the run."""
STATUS = {"completed": 0, "failed": 1, "stopped": 3}


class Wrong(Exception):
    """The job cannot be begun; the message says why and what to do."""


def main() -> int:
    """Run a job to its end; 0 completed, 1 failed, 2 not begun, 3 stopped with a checkpoint."""
    options = _options()
    try:
        spec = read_spec(options.spec)
        folder: Path = (options.out or Path("runs") / spec.name).absolute()
        python: Path = (options.python or WorkerTable().interpreter(spec.recipe)).absolute()
        runner = LocalRunner(lambda recipe: python)
        if runner.list_owned(folder):
            raise Wrong(f"a run is under way in {folder}")
        _prepare(spec, folder, python, options)
    except Wrong as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    wanted = spec.resources.processes
    gpus = [one.uuid for one in devices(wanted, {})][:wanted]
    (folder / STOP).unlink(missing_ok=True)  # of the run that this one goes on from
    runner.submit(
        Command(
            recipe=spec.recipe, folder=folder, processes=wanted, devices=tuple(gpus),
            offline=spec.base.source == "path",
        )
    )  # fmt: skip
    return _follow(runner, folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tunegate train", description="Run one training job, without control.")
    parser.add_argument("spec", type=Path, metavar="SPEC.toml", help="the job; data.train is the path of a file")
    parser.add_argument("--out", type=Path, help="the run's folder (runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on from the last good checkpoint in the folder")
    parser.add_argument("--python", type=Path, help="interpreter that has the recipe's packages (.venv-train's)")
    parser.add_argument("--swanlab", choices=["disabled", "local", "offline", "cloud"], default="disabled")
    return parser.parse_args()


def read_spec(path: Path) -> JobSpec:
    """The job in a file. Folders and files in it are relative to that file.

    Raises:
        Wrong: every mistake with its place.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        spec = JobSpec.model_validate(tables)
    except OSError as exc:
        raise Wrong(f"{path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise Wrong(f"{path}: not valid TOML: {exc}") from exc
    except ValidationError as exc:
        said = [f"{path}: {'.'.join(map(str, one['loc']))}: {one['msg']}".replace(": : ", ": ") for one in exc.errors()]
        raise Wrong("\n".join(said)) from exc
    if spec.resources.nodes > 1:
        raise Wrong(f"{path}: resources.nodes: this is one machine; use resources.processes")
    here = path.absolute().parent
    base = spec.base.model_copy(update={"id": str(here / spec.base.id)}) if spec.base.source == "path" else spec.base
    files = {"train": str(here / spec.data.train)}
    if spec.data.validation:
        files["validation"] = str(here / spec.data.validation)
    asked = spec.eval and spec.eval.model_copy(update={"data": str(here / spec.eval.data)})
    return spec.model_copy(update={"base": base, "data": spec.data.model_copy(update=files), "eval": asked})


def _prepare(spec: JobSpec, folder: Path, python: Path, options: argparse.Namespace) -> None:
    """Fill the run's folder: rows checked, the job told."""
    if not python.exists():
        makes = "make llamafactory" if spec.recipe == "llamafactory" else "make install"
        raise Wrong(f"{python}: there is no such interpreter; `{makes}` makes it, --python names another")
    begun = (folder / "run.json").exists()
    if begun and not options.resume:
        raise Wrong(f"{folder} has a run: --resume goes on with it, --out names another folder")
    if options.resume and not begun:
        raise Wrong(f"{folder} has no run that could go on")
    for problem in servable.problems(spec, SERVED_RANK):
        sys.stderr.write(f"note: it cannot be served later: {problem}\n")
    folder.mkdir(parents=True, exist_ok=True)
    files = {"train": spec.data.train, "validation": spec.data.validation, "evaluation": spec.eval and spec.eval.data}
    adapter = {"train": files.pop("train")} if spec.recipe in OF_AN_ADAPTER else {}
    wanted = {split: Path(path) for split, path in files.items() if path}
    reports = {} if begun else {split: _checked(spec, split, path, folder / split) for split, path in wanted.items()}
    if "train" in reports:
        _weigh(spec, reports["train"])
    told = {
        "spec": spec.model_dump(mode="json"), "resume": options.resume, "tracking": {"swanlab": options.swanlab},
        **{split: str(folder / split / "rows.jsonl") for split in wanted}, **adapter,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(told, ensure_ascii=False, indent=2), encoding="utf-8")


def _checked(spec: JobSpec, split: str, source: Path, out: Path) -> dict[str, Any]:
    """The report about a file of rows, which are then in `out`."""
    command = [sys.executable, "-m", "trainer.data.check", str(source), str(out)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Wrong(f"{source}: {done.stderr.strip()[-1000:]}")
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    said = f"{report['accepted']} of {report['total']} rows accepted, {report['duplicates']} were there twice"
    sys.stderr.write(f"{source}: {report['format']}: {said}\n")
    if report["rejected"]:
        sys.stderr.write(f"  {report['rejected']} rejected {report['reasons']}: see {out / 'rejected.jsonl'}\n")
    if not report["accepted"]:
        raise Wrong(f"{source}: no row can be used")
    kinds = ("choice",) if split == "evaluation" else ROWS_OF[spec.recipe]
    if report["kind"] not in kinds:
        what = "eval.data has" if split == "evaluation" else f"{spec.recipe} learns from"
        raise Wrong(f"{source}: its rows are of kind {report['kind']}, and {what} {' or '.join(kinds)}")
    return report


def _weigh(spec: JobSpec, report: dict[str, Any]) -> None:
    """Say what the job takes, and refuse what cannot fit."""
    shape = estimate.read_shape(Path(spec.base.id))
    if shape is None:
        return
    memory = devices(spec.resources.processes, {})[0].memory_mib
    tokens = report["lengths"]["characters"]["total"] // CHARACTERS_PER_TOKEN
    found = estimate.estimate(spec, shape, report["accepted"], tokens, memory)
    sys.stderr.write(f"about {found.steps} steps, {found.tokens} tokens, {found.memory_mib} MiB a process\n")
    if not found.fits:
        raise Wrong(found.advice)


def _follow(runner: LocalRunner, folder: Path) -> int:
    """Show how the run goes until it has ended; the exit status of the command."""
    progress = Progress(folder, sys.stderr)
    asked = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            runner.kill(folder, 0.0)
        asked.set()
        runner.request_stop(folder)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_interrupt)
    told = False
    while True:
        status = runner.poll(folder)
        progress.look()
        if not status.running:
            break
        if asked.is_set() and not told:
            told = True
            progress.say("it ends with a checkpoint at the end of this step; Ctrl-C again ends it at once")
        threading.Event().wait(LOOK)
    return _told(progress, folder, status.exit_status)


def _told(progress: Progress, folder: Path, exit_status: int | None) -> int:
    ended = progress.finished
    if ended is None:
        how = f"status {exit_status}" if exit_status is not None else "nobody knows how"
        log = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")[-2000:]
        progress.say(f"{log}\nthe recipe ended ({how}) without a word; its log is {folder / 'log.txt'}")
        return STATUS["failed"]
    match ended["outcome"]:
        case "completed":
            progress.say(f"completed: {folder / ended['output']}")
        case "stopped":
            progress.say(f"stopped after step {ended['step']} with a checkpoint: --resume goes on")
        case _:
            progress.say(f"failed ({ended['failure']}): {ended['message']}\nits log is {folder / 'log.txt'}")
    return STATUS[ended["outcome"]]


if __name__ == "__main__":
    sys.exit(main())
