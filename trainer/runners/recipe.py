"""What starts a recipe, wherever it runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.runners.base import Command


def copy_code(folder: Path) -> None:
    """Give a run its own copy of this package: an upgrade does not change a run under way."""
    code = folder / "code"
    if not code.exists():
        ignored = shutil.ignore_patterns("__pycache__", "engines", "runners")
        shutil.copytree(Path(__file__).parents[1], code / "trainer", ignore=ignored)


def argv(command: Command) -> list[str]:
    """The recipe's command line, behind that of its interpreter."""
    return ["-m", f"trainer.recipes.{command.recipe}", str(command.folder)]


def environment(command: Command, threads: int | None) -> dict[str, str]:
    """Variables that a recipe has wherever it runs. `threads`: of each process on a CPU; None where it has a GPU."""
    return {
        **({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} if command.offline else {}),
        **({} if threads is None else {"OMP_NUM_THREADS": str(threads)}),
        "PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
