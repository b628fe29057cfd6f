"""Trackers beside our own records: SwanLab and TensorBoard. None of them ever fails a run or holds it up."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from trainer.recipes.common.run import Run

_MODES = {"local": "local", "offline": "offline", "cloud": "online", "self-hosted": "online"}
"""Our words for SwanLab's modes."""
_BEHIND = 10_000
"""Figures that may wait for a tracker."""
_PATIENCE = 10.0
"""Seconds that trackers have at the end, all together."""

Log = Callable[[int, dict[str, float]], object]
Opener = Callable[[], tuple[Log, Callable[[], object]]]


class Trackers:
    """Those that the run's settings ask for."""

    def __init__(self, run: Run) -> None:
        openers: dict[str, Opener] = {}
        if run.is_first and run.file.tracking.tensorboard:
            openers["TensorBoard"] = lambda: _tensorboard(run)
        if run.is_first and run.file.tracking.swanlab != "disabled":
            openers["SwanLab"] = lambda: _swanlab(run)
        self._sinks = [_Sink(name, opener, run) for name, opener in openers.items()]

    def measured(self, step: int, values: dict[str, float]) -> None:
        """Hand figures on."""
        for sink in self._sinks:
            sink.put((step, values))

    def close(self) -> None:
        """Let them write what they still hold."""
        deadline = time.monotonic() + _PATIENCE
        for sink in self._sinks:
            sink.put(None)
        for sink in self._sinks:
            sink.join(deadline)


class _Sink:
    """One tracker in a thread of its own. One that fails is told of, and not asked again."""

    def __init__(self, name: str, opener: Opener, run: Run) -> None:
        self._name, self._opener, self._run = name, opener, run
        self._waiting: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(_BEHIND)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def put(self, figures: tuple[int, dict[str, float]] | None) -> None:
        """More figures; None: there are no more."""
        if not self._thread.is_alive():
            return
        try:
            self._waiting.put_nowait(figures)
        except queue.Full:  # it hangs, and `join` says so at the end
            return

    def join(self, deadline: float) -> None:
        """Wait until it has written everything, but not for ever."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._run.warn(f"{self._name} does not answer: what it has of this run may not be whole")

    def _work(self) -> None:
        try:
            log, close = self._opener()
            while (figures := self._waiting.get()) is not None:
                log(*figures)
            close()
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever a tracker does, the run goes on
            self._run.warn(f"{self._name} is left out from now on: {type(exc).__name__}: {exc}")


def _tensorboard(run: Run) -> tuple[Log, Callable[[], object]]:
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - one of several

    writer = SummaryWriter(str(run.folder / "tensorboard"))

    def log(step: int, values: dict[str, float]) -> None:
        for metric, value in values.items():
            writer.add_scalar(metric, value, step)

    return log, writer.close


def _swanlab(run: Run) -> tuple[Log, Callable[[], Any]]:
    import swanlab  # noqa: PLC0415 - one of several

    tracking, spec = run.file.tracking, run.spec
    settings = swanlab.Settings(interactive=False)
    if tracking.swanlab == "self-hosted" and tracking.swanlab_host:
        swanlab.login(host=tracking.swanlab_host)
    swanlab.init(
        project=tracking.project, experiment_name=spec.name, config=spec.model_dump(mode="json"), settings=settings,
        mode=_MODES[tracking.swanlab], log_dir=tracking.swanlab_dir or str(run.folder / "swanlog"),
    )  # fmt: skip
    return lambda step, values: swanlab.log(values, step=step), swanlab.finish
