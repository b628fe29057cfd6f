"""What a job is going to take, as far as it can be known here: the base model's folder may be on the worker only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from control.jobs.schemas import Estimate
from trainer.contract.estimate import estimate, read_shape
from trainer.contract.spec import JobSpec

CHARACTERS = 3.0
"""Of a token, where no tokenizer has counted them: between English (4) and Chinese (1.5)."""


def of(
    spec: JobSpec, rows: int, report: dict[str, Any], device_mib: int | None, tokens_per_second: float | None
) -> Estimate:
    """Steps, tokens, memory and time of a job over `rows` rows with the report of their check. `device_mib`: memory of
    the smallest device that could run it; `tokens_per_second`: of the last job like it.
    """
    shape = None
    if spec.base.source == "path" and Path(spec.base.id).is_dir():
        shape = read_shape(Path(spec.base.id))
    if shape is None:
        advice = "the base model is not on this machine: nobody knows here how much memory it needs"
        return Estimate(steps=None, tokens=None, memory_mib=None, seconds=None, fits=None, advice=advice)
    lengths = report.get("lengths") or {}
    tokens = int(lengths.get("characters", {}).get("total", 0) / CHARACTERS)
    found = estimate(spec, shape, rows, tokens, device_mib, tokens_per_second)
    return Estimate(
        steps=found.steps, tokens=found.tokens, memory_mib=found.memory_mib, seconds=found.seconds,
        fits=None if device_mib is None else found.fits, advice=found.advice,
    )  # fmt: skip
