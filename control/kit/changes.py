"""From a request body to columns: what was sent, in the form in which it is kept."""

from __future__ import annotations

from typing import Any


def stored(body: Any) -> dict[str, Any]:
    """The fields of a body that were sent and are kept, limits and budgets as JSON."""
    kept = {
        "description",
        "note",
        "limits",
        "budgets",
        "enabled",
        "models",
        "cidrs",
        "expires_at",
        "log_bodies",
        "gpu_quota",
    }
    sent: dict[str, Any] = {}
    for field in kept & (body.model_fields_set | {f for f in ("limits", "budgets") if getattr(body, f, None)}):
        value = getattr(body, field)
        if field == "limits" and value is not None:
            value = value.model_dump(mode="json", exclude_none=True)
        elif field == "budgets" and value is not None:
            value = [budget.model_dump(mode="json") for budget in value]
        elif isinstance(value, tuple):
            value = list(value)
        if value is not None or field in ("expires_at", "gpu_quota"):
            sent[field] = value
    return sent
