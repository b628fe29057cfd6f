"""Where a recipe runs: one small interface, so that another place is another file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainer.contract.spec import RecipeName
from trainer.contract.worker import Device


@dataclass(frozen=True, slots=True)
class Command:
    """What to run."""

    recipe: RecipeName
    folder: Path
    """The run's folder, with `run.json`."""
    processes: int
    """On each node."""
    devices: tuple[str, ...]
    """UUIDs of GPUs, or slots of the CPU (`cpu-0`)."""
    offline: bool
    """No model hub is asked."""
    nodes: int = 1


class Unavailable(Exception):
    """The place where runs go does not answer now: try again."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a run is."""

    running: bool
    exit_status: int | None = None
    """Of the recipe; negative: the signal. None while it runs, and where nobody knows."""


class Runner(Protocol):
    """Starts recipes, and finds them again by their folder after a restart."""

    def submit(self, command: Command) -> None:
        """Start a recipe.

        Raises:
            Unavailable: not now. What was begun all the same, a next call finds.
            OSError: that cannot be done.
        """

    def poll(self, folder: Path) -> Status:
        """How the run in a folder is."""

    def request_stop(self, folder: Path) -> None:
        """Ask for a checkpoint and the end."""

    def kill(self, folder: Path, grace: float) -> None:
        """End all of its processes: after a request they have `grace` seconds. Returns when none is left, or, where
        nobody answers, when none can be left.
        """

    def list_owned(self, root: Path) -> list[Path]:
        """Folders below `root` in which a run has processes. Raises Unavailable if that is not known now."""

    def devices(self, slots: int, held: dict[str, str]) -> tuple[Device, ...]:
        """What runs can have: GPUs, or where there is none `slots` of a machine's CPU. `held`: uuid → by what."""
