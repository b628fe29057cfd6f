"""Whether what a run asks fits together: candidates and prompts, prompts and cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from control.comparisons import prompt
from control.comparisons.run_schemas import Candidate
from control.comparisons.schemas import SuiteCase
from control.errors import FieldError

MOST_ERRORS = 50


def expanded(
    asked: Sequence[Candidate], prompts: Sequence[str], at: str
) -> tuple[list[dict[str, Any]], list[FieldError]]:
    """Candidates, one for each prompt where none is named, and what is wrong with them; `at` is where they are."""
    found: list[dict[str, Any]] = []
    errors = []
    for number, one in enumerate(asked):
        if one.prompt is not None and one.prompt not in prompts:
            message = f"there is no prompt {one.prompt!r}: {', '.join(prompts)}"
            errors.append(FieldError(at=f"{at}.{number}.prompt", message=message))
        for each in prompts if one.prompt is None else [one.prompt]:
            several = one.prompt is None and len(prompts) > 1
            name = (one.name or one.route) + (f" · {each}" if several else "")
            if name in {other["name"] for other in found}:
                message = f"{name!r} is there twice: give one another name"
                errors.append(FieldError(at=f"{at}.{number}.name", message=message))
            found.append({"name": name, "route": one.route, "prompt": each, "parameters": one.parameters})
    return found, errors


def lacking(prompts: Sequence[Mapping[str, Any]], cases: Sequence[SuiteCase], at: str) -> list[FieldError]:
    """Prompts that do not find in every case what they have places for, or ask nothing."""
    errors = []
    for number, one in enumerate(prompts):
        wanted = prompt.names(one["messages"])
        for place, case in enumerate(cases, 1):
            if missing := sorted(wanted - set(case.variables)):
                message = f"case {place} has no variable {', '.join(missing)}"
                errors.append(FieldError(at=f"{at}.{number}", message=message))
            elif not one["messages"] and not case.messages:
                errors.append(FieldError(at=f"{at}.{number}", message=f"case {place} asks nothing"))
            if len(errors) >= MOST_ERRORS:
                return errors
    return errors
