"""Settings through the API: all of them with their documentation, and no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from control.configuration.endpoints import chinese_texts
from control.settings import DatabaseTable, OidcTable, RetentionTable, SecretsTable, Settings, is_secret
from tests.control.api.conftest import Running, Start

NAMED_LIKE_A_SECRET = re.compile(r"(^|_)(key|secret|password|token)$")


def test_every_setting_is_shown_with_its_meaning_and_where_to_change_it(control: Running) -> None:
    tables = control.admin.get("/api/v1/settings").json()["tables"]
    assert [table["name"] for table in tables] == list(Settings.model_fields)
    assert all(table["meaning"] and one["meaning"] for table in tables for one in table["settings"])
    shown = {(table["name"], one["key"]): one for table in tables for one in table["settings"]}
    documented = (Path(__file__).parents[3] / "docs" / "settings-control.md").read_text(encoding="utf-8")
    assert len(shown) == documented.count("\n| `")
    days = shown["retention", "ledger_days"]
    assert (days["value"], days["default"], days["variable"]) == (400, True, "TUNEGATE_RETENTION_LEDGER_DAYS")
    assert shown["console", "data_dir"]["default"] is False
    assert str(control.settings.console.data_dir) == shown["console", "data_dir"]["value"]


def test_every_setting_has_its_meaning_in_chinese_and_no_other_has(control: Running) -> None:
    texts = chinese_texts()
    assert {name: set(table) for name, table in texts.items()} == {
        name: {"meaning", *type(getattr(Settings(), name)).model_fields} for name in Settings.model_fields
    }
    for name, table in texts.items():
        for key, text in table.items():
            assert re.search("[\u4e00-\u9fff]", text), (name, key)
            assert not re.search("[\u4e00-\u9fff][,;?:!(]", text), (name, key, "wants full-width punctuation")
            assert text.endswith("。"), (name, key)
            assert text.count("`") % 2 == 0, (name, key)
    for table in control.admin.get("/api/v1/settings").json()["tables"]:
        assert table["meaning_zh"] == texts[table["name"]]["meaning"]
        assert all(one["meaning_zh"] == texts[table["name"]][one["key"]] for one in table["settings"])
    # what is written as code in one language is so in the other
    for table in control.admin.get("/api/v1/settings").json()["tables"]:
        for one in table["settings"]:
            code = [set(one[name].split("`")[1::2]) for name in ("meaning", "meaning_zh")]
            assert code[0] == code[1], (table["name"], one["key"], code)


def test_no_secret_is_shown_not_even_where_it_is(control: Running) -> None:
    secret = "postgresql+asyncpg://tunegate:hunter2@db/x"
    control.parts.settings = Settings(
        console=control.settings.console,
        database=DatabaseTable(url=secret),
        secrets=SecretsTable(key="env:THE_KEY", previous_key="file:/run/previous", unwrap_token="env:VAULT"),
        oidc=OidcTable(client_secret="env:IDP"),
        retention=RetentionTable(ledger_days=90),
    )
    answer = control.admin.get("/api/v1/settings")
    for text in ("hunter2", "THE_KEY", "/run/previous", "VAULT", "env:IDP"):
        assert text not in answer.text
    shown = {(table["name"], one["key"]): one for table in answer.json()["tables"] for one in table["settings"]}
    assert shown["database", "url"]["given"] is True
    assert (shown["database", "url"]["value"], shown["database", "url"]["secret"]) == (None, True)
    assert (shown["retention", "ledger_days"]["value"], shown["retention", "ledger_days"]["default"]) == (90, False)


def test_a_setting_that_is_named_like_a_secret_is_one() -> None:
    for name in Settings.model_fields:
        for key, field in type(getattr(Settings(), name)).model_fields.items():
            if NAMED_LIKE_A_SECRET.search(key) and field.annotation is str:
                assert is_secret(field), (name, key)


@pytest.mark.parametrize("role", ["operator", "engineer", "member", "viewer"])
def test_only_admins_see_settings(start_control: Start, role: str) -> None:
    assert start_control().as_(role).get("/api/v1/settings").status_code == 403
