"""Trackers beside our own records: SwanLab and TensorBoard. None of them ever fails or holds up a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from trainer.recipes.common.run import Run

_MODES = {"local": "local", "offline": "offline", "cloud": "online", "self-hosted": "online"}
"""Our words for SwanLab's modes."""


class Trackers:
    """Those that the run's settings ask for. One that fails is told of, and not asked again."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sinks: dict[str, tuple[Callable[[int, dict[str, float]], None], Callable[[], None]]] = {}
        if run.is_first and run.file.tracking.tensorboard:
            self._open("TensorBoard", self._tensorboard)
        if run.is_first and run.file.tracking.swanlab != "disabled":
            self._open("SwanLab", self._swanlab)

    def measured(self, step: int, values: dict[str, float]) -> None:
        """Hand figures on."""
        for name, (log, _) in list(self._sinks.items()):
            self._guarded(name, partial(log, step, values))

    def close(self) -> None:
        """Let them write what they still hold."""
        for name, (_, close) in list(self._sinks.items()):
            self._guarded(name, close)

    def _open(self, name: str, opener: Callable[[], Any]) -> None:
        def keep() -> None:
            self._sinks[name] = opener()

        self._guarded(name, keep)

    def _guarded(self, name: str, work: Callable[[], object]) -> None:
        try:
            work()
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever a tracker does, the run goes on
            self._sinks.pop(name, None)
            self._run.warn(f"{name} is left out from now on: {type(exc).__name__}: {exc}")

    def _tensorboard(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - one of several

        writer = SummaryWriter(str(self._run.folder / "tensorboard"))

        def log(step: int, values: dict[str, float]) -> None:
            for metric, value in values.items():
                writer.add_scalar(metric, value, step)

        return log, writer.close

    def _swanlab(self) -> Any:
        import swanlab  # noqa: PLC0415 - one of several

        tracking, spec = self._run.file.tracking, self._run.spec
        settings = swanlab.Settings(interactive=False)
        if tracking.swanlab == "self-hosted" and tracking.swanlab_host:
            swanlab.login(host=tracking.swanlab_host)
        swanlab.init(
            project=tracking.project, experiment_name=spec.name, config=spec.model_dump(mode="json"), settings=settings,
            mode=_MODES[tracking.swanlab], log_dir=str(self._run.folder / "swanlog"),
        )  # fmt: skip
        return lambda step, values: swanlab.log(values, step=step), swanlab.finish
