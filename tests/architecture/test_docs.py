"""Pages that are made from code are up to date, and nothing that an operator may set or meet is undocumented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from gateway import settings_page
from gateway.contract import caching, guard, snapshot as wire
from gateway.contract.base import Wire
from gateway.errors import VOCABULARY
from gateway.settings import Settings
from gateway.snapshot.compile import compile_snapshot
from gateway.snapshot.file import load
from gateway.telemetry.metrics import documentation
from tests.architecture import pictures
from trainer import settings as trainer_settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.toml"
TABLES = [field.annotation for field in Settings.model_fields.values()]
MODELS: list[type[BaseModel]] = [*TABLES, *(model for _, model in settings_page.SNAPSHOT)]  # type: ignore[list-item]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_the_metrics_page_is_what_the_code_says_or_make_fix_was_forgotten() -> None:
    assert read("docs/metrics.md") == documentation()


def test_the_settings_page_is_what_the_code_says_or_make_fix_was_forgotten() -> None:
    assert read("docs/settings.md") == settings_page.settings_page()


def test_the_pictures_are_what_their_script_draws_or_make_fix_was_forgotten() -> None:
    drawn = pictures.files()
    assert {path: path.read_text(encoding="utf-8") for path in pictures.FOLDER.iterdir()} == drawn
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", "".join(drawn.values()))
    assert len(texts) > 150
    assert not [
        path for path, text in drawn.items() if path.stem.endswith(".zh") is not bool(re.search("[一-龥]", text))
    ]


def test_the_settings_page_leaves_out_no_model() -> None:
    described = {model for _, model in settings_page.SNAPSHOT}
    known = [*vars(wire).values(), *vars(guard).values(), *vars(caching).values()]
    models = {m for m in known if isinstance(m, type) and issubclass(m, Wire)}
    assert models - described == {Wire, wire.Snapshot}


@pytest.mark.parametrize("model", [Settings, wire.Snapshot, *MODELS], ids=lambda model: model.__name__)
def test_every_setting_says_what_it_means(model: type[BaseModel]) -> None:
    assert model.__doc__
    silent = [name for name, field in model.model_fields.items() if not field.description]
    assert not silent, f"{model.__name__}: {', '.join(silent)} have no docstring below them"


def keys() -> Iterator[tuple[str, str]]:
    for model in [
        *MODELS,
        trainer_settings.Engine,
        trainer_settings.ExternalEngine,
        trainer_settings.WorkerTable,
        trainer_settings.Tracking,
        trainer_settings.RayTable,
    ]:
        for name, field in model.model_fields.items():
            yield model.__name__, field.alias or name


@pytest.mark.parametrize(("model", "key"), sorted(set(keys())))
def test_the_example_configuration_shows_every_key(model: str, key: str) -> None:
    text = read("config.example.toml")
    if model == "Engine":
        text = text[text.index("[[engine]]") :]
    if model == "ExternalEngine":
        text = text[text.index("[[external_engine]]") :]
    if model in ("WorkerTable", "Tracking", "RayTable"):
        text = text[text.index("# [trainer]") :]
    shown = rf"(?m)(?:^\s*(?:# )?|[{{,] ?){key} = |\[\[?(?:\w+\.)?{key}\]"
    assert re.search(shown, text), f"config.example.toml has no `{key}` of {model}"


def test_the_example_configuration_loads_and_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r'^[^#\n]*"env:(\w+)"', read("config.example.toml"), re.MULTILINE):
        monkeypatch.setenv(name, "a-secret-of-the-example-0123456789")
    settings, snapshot = load(EXAMPLE)
    runtime = compile_snapshot(snapshot)
    assert {"gpt-4o", "default", "support-bot"} <= runtime.routes.keys()
    assert settings.gateway.port == 8000


def test_the_example_configuration_shows_the_defaults_of_the_process_settings() -> None:
    settings, _ = load(EXAMPLE)  # secrets are resolved when the snapshot is compiled, not here
    assert settings == Settings()


def test_the_commented_engine_of_the_example_is_one_that_the_trainer_accepts(tmp_path: Path) -> None:
    lines = read("config.example.toml").splitlines()
    start = lines.index("# [[engine]]")
    example = tmp_path / "config.toml"
    end = next(number for number, line in enumerate(lines) if line.startswith("# ---- Engines that others run"))
    example.write_text("\n".join(line.removeprefix("# ") for line in lines[start:end]), encoding="utf-8")
    (engine,) = trainer_settings.load(example).engines
    assert engine.name == "tiny"


def test_every_error_code_is_explained_with_its_status() -> None:
    page = read("docs/errors.md")
    for code, (status, kind, openai_code) in VOCABULARY.items():
        row = re.search(rf"^\| `{code}` \|.*$", page, re.MULTILINE)
        assert row is not None, f"docs/errors.md has no row for {code}"
        for cell in (str(status), f"`{kind}`", f"`{openai_code or code}`"):
            assert f"| {cell} |" in row[0], f"docs/errors.md: the row of {code} should say {cell}"
    assert set(re.findall(r"^\| `(\w+_\w+)` \|", page, re.MULTILINE)) == VOCABULARY.keys()


def test_every_decision_is_linked_from_the_readme() -> None:
    text = read("README.md")
    assert not [page.name for page in ROOT.glob("docs/adr/*.md") if f"docs/adr/{page.name}" not in text]
