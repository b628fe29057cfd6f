"""What follows from an attempt that did not complete: another one, with what changed, or the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.contract.spec import JobSpec

BACKOFF = (10.0, 60.0, 300.0, 900.0)
"""Seconds before the first, second, … retry; the last one from then on."""
AGAIN = frozenset({"infra", "stall", "disk", "checkpoint", "unknown", "lost"})
"""Failures that may not come again. Wrong data and wrong settings always do."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a failure."""

    again: bool
    message: str
    delay: float = 0.0
    """Seconds."""
    plan: dict[str, Any] | None = None
    """New plan; None: as it was."""
    counts: bool = True
    """Whether it is one of the `max_retries`."""


def after(failure: str, message: str, spec: JobSpec, plan: dict[str, Any], retries: int, most: int) -> Verdict:
    """Decide about a failed attempt; `retries` were made since the job last got ahead."""
    if failure == "oom":
        smaller = after_oom(spec, plan) if spec.recipe != "merge" else None
        if smaller is None:
            return Verdict(False, f"out of memory with the smallest plan: {message}")
        said = ", ".join(f"{name} = {value}" for name, value in smaller.items())
        return Verdict(True, f"out of memory; tried again with {said}: {message}", plan=smaller, counts=False)
    if failure not in AGAIN:
        return Verdict(False, message)
    if retries >= most:
        return Verdict(False, f"{message} (after {retries} retries)" if retries else message)
    return Verdict(True, message, BACKOFF[min(retries, len(BACKOFF) - 1)])


def after_oom(spec: JobSpec, plan: dict[str, Any]) -> dict[str, Any] | None:
    """The next smaller plan with the same effective batch, or None: half the micro-batch and twice the accumulation
    until that is one row, then gradient checkpointing.
    """
    training = spec.training.model_copy(update=plan)
    if training.micro_batch > 1:
        rows = training.micro_batch * training.accumulation
        micro = next(size for size in range(training.micro_batch // 2, 0, -1) if rows % size == 0)
        return plan | {"micro_batch": micro, "accumulation": rows // micro}
    if not training.gradient_checkpointing:
        return plan | {"gradient_checkpointing": True}
    return None


def planned(spec: JobSpec, plan: dict[str, Any]) -> JobSpec:
    """The spec with what the plan changes."""
    return spec.model_copy(update={"training": spec.training.model_copy(update=plan)})
