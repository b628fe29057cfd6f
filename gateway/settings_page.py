"""docs/settings.md: every key of config.toml with its default and meaning, made from the models' own docstrings."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.contract import snapshot as wire
from gateway.contract.caching import Cache, SemanticCache
from gateway.settings import Settings

INTRO = """# Settings

Every key of `config.toml` that the gateway reads, made from the models in `gateway/settings.py` and
`gateway/contract/` (`make fix` rewrites this page). `config.example.toml` shows them in use.

Process settings are read at start; each has an environment variable `TUNEGATE_<TABLE>_<KEY>`, such as
`TUNEGATE_GATEWAY_LISTEN`, which wins over the file. The other tables are watched and live within a second.
"""
SNAPSHOT: tuple[tuple[str, type[BaseModel]], ...] = (
    ("[[endpoint]]", wire.Endpoint),
    ("timeouts (of an endpoint or route)", wire.Timeouts),
    ("[[route]]", wire.Route),
    ("[[route.target]]", wire.Target),
    ("price (of a route or target)", wire.Price),
    ("retry (of a route)", wire.Retry),
    ("breaker (of a route)", wire.Breaker),
    ("knowledge (of a route)", wire.Knowledge),
    ("log (of a route)", wire.Log),
    ("shadow (of a route)", wire.Shadow),
    ("cache (of a route)", Cache),
    ("semantic (of a cache)", SemanticCache),
    ("limits (of a route, team or key)", wire.Limits),
    ("budget (of a team or key)", wire.Budget),
    ("[[team]]", wire.Team),
    ("[[key]]", wire.Key),
)


def settings_page() -> str:
    """The whole page."""
    lines = [INTRO]
    for name, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        lines += _table(f"[{name}]", field.annotation)
    for title, model in SNAPSHOT:
        lines += _table(title, model)
    return "\n".join(lines).rstrip() + "\n"


def _table(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n\n{(model.__doc__ or '').strip()}\n"
    yield "| key | default | meaning |\n|---|---|---|"
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        yield f"| `{field.alias or name}` | {_default(field)} | {meaning} |"
    yield ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "see below"
    if value is None or value in ((), {}, ""):
        return "none"
    return f"`{value}`"
