"""docs/settings-control.md: the tables of config.toml that control reads, made from `control.settings`."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from control.settings import Settings

INTRO = """# Settings of the control plane

Every key of `config.toml` that control reads, made from `control/settings.py` (`make fix` rewrites this page). Read at
start. Each has an environment variable `TUNEGATE_<TABLE>_<KEY>`, such as `TUNEGATE_DATABASE_URL`, which wins over the
file; a list is separated by commas there, a table is JSON. The gateway's own are in [settings.md](settings.md).
"""


def settings_page() -> str:
    """The whole page."""
    lines = [INTRO]
    for name, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        lines += _table(name, field.annotation)
    return "\n".join(lines).rstrip() + "\n"


def _table(name: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## [{name}]\n\n{(model.__doc__ or '').strip()}\n"
    yield "| key | default | meaning |\n|---|---|---|"
    for key, field in model.model_fields.items():
        default = f"`{field.default}`" if field.default not in ("", None, (), {}) else "none"
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        yield f"| `{key}` | {default} | {meaning} |"
    yield ""
