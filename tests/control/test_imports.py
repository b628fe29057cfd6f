"""What other gateways' configurations become: the mapping, the report, and that nothing is written twice or by half."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from control.commands import main
from control.imports import litellm, oneapi
from control.imports.plan import Plan

SECRET = "sk-an-upstream-secret-0123456789"
TOKEN = "a1B2" * 12
CONFIG = """
model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/KEY_A, rpm: 60, weight: 3, input_cost_per_token: 2.5e-6}
  - model_name: gpt-4o
    litellm_params: {model: mycloud/gpt-4o-eu, api_base: https://eu.example.com/v1/, api_key: SECRET, rpm: 40, order: 2}
  - model_name: my model
    litellm_params: {model: deepseek/deepseek-chat, api_key: os.environ/NOT_SET, foo: 1, output_cost_per_token: 1e-6}
  - model_name: claude
    litellm_params: {model: bedrock/claude-3, api_key: SECRET}
  - model_name: leaky
    litellm_params: {model: openai/x, api_base: "https://user:SECRET@example.com"}
router_settings: {num_retries: 2, timeout: 30, fallbacks: [{gpt-4o: [my model]}, {my model: [a, b]}]}
general_settings: {master_key: SECRET}
""".replace("SECRET", SECRET)
CHANNELS = """CREATE TABLE channels (id integer PRIMARY KEY, type integer, key text, status integer, name text,
  weight integer, base_url text, models text, "group" varchar(32), model_mapping text, priority bigint)"""
TOKENS = """CREATE TABLE tokens (id integer PRIMARY KEY, user_id integer, key char(48), status integer, name text,
  expired_time bigint, remain_quota bigint, unlimited_quota numeric, models text, subnet text)"""


@pytest.fixture
def plane(tmp_path: Path) -> Path:
    config = tmp_path / "config.toml"
    config.write_text(f'[console]\ndata_dir = "{tmp_path}"\n')
    assert main(["migrate", "--config", str(config)]) == 0
    assert main(["admin-create", "admin", "--config", str(config)]) == 0
    return config


def rows(plane: Path, query: str) -> list[Any]:
    (database,) = (path for path in plane.parent.glob("*.db") if path.name != "one-api.db")
    connection = sqlite3.connect(database)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.fixture
def one_api(tmp_path: Path) -> Path:
    path = tmp_path / "one-api.db"
    connection = sqlite3.connect(path)
    connection.execute(CHANNELS)
    connection.execute(TOKENS)
    connection.execute("CREATE TABLE users (id integer PRIMARY KEY, username text, status integer, quota bigint)")
    connection.executemany("INSERT INTO users VALUES (?,?,?,?)", [(1, "root", 1, 5), (2, "gone", 2, 0)])
    connection.executemany(
        "INSERT INTO channels VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        [
            (1, 1, SECRET, 1, "Open AI", 0, "https://api.example.com", "gpt-4o,gpt-4", "default", '{"gpt-4":"g4"}', 5),
            (2, 36, SECRET + "\n" + SECRET[:-1] + "x", 1, "Open AI", 2, "", "gpt-4o", "vip", "", 0),
            (3, 15, SECRET, 1, "ernie", 0, "", "ernie-4", "default", "", 0),
            (4, 17, SECRET, 2, "qwen", 0, "", "qwen-max", "default", "", 0),
        ],
    )
    connection.executemany(
        "INSERT INTO tokens VALUES (?,?,?,?,?,?,?,?,?,?)",
        [
            (1, 1, TOKEN, 1, "app", -1, 1_250_000, 0, "gpt-4o", "10.0.0.0/8"),
            (2, 2, TOKEN[::-1], 1, "app", 1999999999, 0, 1, None, None),
            (3, 1, "short", 1, "weak", -1, 0, 1, None, None),
            (4, 1, "z" * 48, 1, "net", -1, 0, 1, None, "not a network"),
        ],
    )
    connection.commit()
    connection.close()
    return path


def report(plan: Plan) -> str:
    return "\n".join(map(str, plan.report))


def of_litellm(tmp_path: Path, text: str) -> Plan:
    file = tmp_path / "litellm.yaml"
    file.write_text(text)
    return litellm.plan(litellm.load(file), {"KEY_A": SECRET + "A"}.get)


def test_litellms_models_become_routes_with_targets_prices_limits_and_fallbacks(tmp_path: Path) -> None:
    plan = of_litellm(tmp_path, CONFIG)
    assert [(e.name, e.provider, e.base_url, len(e.secrets)) for e in plan.endpoints] == [
        ("openai", "openai", "https://api.openai.com/v1", 1),
        ("mycloud", "openai", "https://eu.example.com/v1", 1),
        ("deepseek", "deepseek", "https://api.deepseek.com/v1", 0),
    ]
    first, second = plan.routes
    assert first.spec == {
        "strategy": "weighted",
        "target": [
            {"endpoint": "openai", "model": "gpt-4o", "weight": 3, "priority": 0, "price": {"input": "2.5"}},
            {"endpoint": "mycloud", "model": "gpt-4o-eu", "weight": 1, "priority": 2},
        ],
        "limits": {"rpm": 100}, "retry": {"max_attempts": 3}, "timeouts": {"total": 30.0, "first_byte": 30.0},
        "fallback": "my-model",
    }  # fmt: skip
    assert second.name == "my-model"
    assert second.spec["target"][0]["price"] == {"output": "1"}  # YAML takes 1e-6 for a text
    for line in (
        "'bedrock' needs settings",
        "password",
        "master_key",
        "foo",
        "fallbacks of my model",
        "add it by hand",
    ):
        assert line in report(plan)
    assert SECRET not in report(plan) + repr(plan)


def test_a_provider_with_an_api_of_its_own_is_taken_where_its_address_is_known(tmp_path: Path) -> None:
    entries = [
        ("claude", "anthropic/claude-sonnet-4-5", ""), ("gemini", "gemini/gemini-2.5-flash", ""),
        ("kimi", "moonshot/kimi-k2", ""), ("gpt", "azure/my-gpt", "https://name.openai.azure.com/"),
        ("nowhere", "azure/my-gpt", ""), ("moved", "anthropic/claude-sonnet-4-5", "https://claude.example.com"),
    ]  # fmt: skip
    lines = [
        f'- {{model_name: {name}, litellm_params: {{model: {model}, api_key: k, api_base: "{base}"}}}}'
        for name, model, base in entries
    ]
    plan = of_litellm(tmp_path, "model_list:\n" + "\n".join(lines))
    assert [(one.provider, one.base_url) for one in plan.endpoints] == [
        ("anthropic", "https://api.anthropic.com/v1"), ("gemini", "https://generativelanguage.googleapis.com/v1beta"),
        ("moonshot", "https://api.moonshot.cn/v1"), ("azure", "https://name.openai.azure.com"),
    ]  # fmt: skip
    assert [route.spec["target"][0]["model"] for route in plan.routes] == [
        "claude-sonnet-4-5", "gemini-2.5-flash", "kimi-k2", "my-gpt",
    ]  # fmt: skip
    assert "(nowhere): 'azure' needs an api_base" in report(plan)
    assert "(moved): 'anthropic' needs settings of its own" in report(plan)
    numbers = {
        14: "https://api.anthropic.com/v1",
        24: "https://g.example.com/v1beta",
        3: "https://a.example.com",
        20: "",
    }
    channels = [
        {"id": n, "type": n, "key": SECRET, "status": 1, "models": f"m{n}", "base_url": url.removesuffix("/v1beta")}
        for n, url in numbers.items()
    ]
    plan = oneapi.plan({"channels": channels, "tokens": [], "users": []})
    assert {one.provider: one.base_url for one in plan.endpoints} == {
        "azure": numbers[3], "anthropic": numbers[14], "openrouter": "https://openrouter.ai/api/v1",
        "gemini": numbers[24],
    }  # fmt: skip


def test_one_apis_channels_become_endpoints_and_its_tokens_keys_with_the_same_secret(one_api: Path) -> None:
    plan = oneapi.plan(oneapi.load(one_api))
    assert [(e.name, e.provider, e.base_url, len(e.secrets), e.enabled) for e in plan.endpoints] == [
        ("Open-AI", "openai", "https://api.example.com/v1", 1, True),
        ("Open-AI-2", "deepseek", "https://api.deepseek.com/v1", 2, True),
        ("qwen", "dashscope", "https://dashscope.aliyuncs.com/compatible-mode/v1", 1, False),
    ]
    assert {r.name: [(t["model"], t["priority"], t["weight"]) for t in r.spec["target"]] for r in plan.routes} == {
        "gpt-4o": [("gpt-4o", 0, 1), ("gpt-4o", 1, 2)],
        "gpt-4": [("g4", 0, 1)],
    }
    app, other = plan.keys
    assert (app.secret, app.models, app.cidrs, str(app.budget)) == (
        f"sk-{TOKEN}",
        ("gpt-4o",),
        ("10.0.0.0/8",),
        "2.500000",
    )
    assert (other.enabled, other.budget, other.models) == (False, None, ("*",))  # its user is disabled
    for line in ("channels of type 15", "too short", "networks", "group", "quota of users"):
        assert line in report(plan)


def test_new_apis_numbers_columns_and_missing_users_are_understood() -> None:
    channel = {"type": 43, "key": SECRET, "status": 1, "models": "m", "auto_ban": 1}
    channels = [channel | {"id": 1}, channel | {"id": 2, "type": 36}, channel | {"id": 3, "type": 26}]
    token = {"id": 1, "user_id": 9, "key": TOKEN, "status": 1, "unlimited_quota": 1, "allow_ips": "10.0.0.1\n10.0.0.2"}
    limited = {"model_limits_enabled": 1, "model_limits": "m", "deleted_at": None}
    tokens = [token | limited, token | {"id": 2, "user_id": 1, "key": b"\0"}]
    plan = oneapi.plan({"channels": channels, "tokens": tokens, "users": [{"id": 1, "status": 1}]})
    assert [endpoint.provider for endpoint in plan.endpoints] == ["deepseek", "zhipu"]
    (key,) = plan.keys
    assert (key.enabled, key.models, key.cidrs) == (False, ("m",), ("10.0.0.1/32", "10.0.0.2/32"))  # no such user


def test_a_litellm_file_is_imported_once(plane: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("KEY_A", SECRET + "A")
    file = tmp_path / "litellm.yaml"
    file.write_text(CONFIG)
    command = ["import", "litellm", str(file), "--config", str(plane)]
    assert main([*command, "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert rows(plane, "SELECT name FROM endpoint") == []
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "7 imported, 0 already there" in first
    assert main(command) == 0
    again = capsys.readouterr().out
    assert "0 imported, 7 already there" in again
    assert SECRET not in first + again
    assert sorted(rows(plane, "SELECT name, version FROM route")) == [("gpt-4o", 1), ("my-model", 1)]
    assert len(rows(plane, "SELECT id FROM credential")) == 2


def test_a_one_api_database_is_imported_once(
    plane: Path, one_api: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    before = one_api.read_bytes()
    command = ["import", "one-api", str(one_api), "--config", str(plane)]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "11 imported, 0 already there" in first
    assert main(command) == 0
    assert "0 imported, 11 already there" in capsys.readouterr().out
    digest = hashlib.sha256(f"sk-{TOKEN}".encode()).hexdigest()
    assert rows(plane, f"SELECT public_name, prefix, enabled FROM api_key WHERE digest = '{digest}'") == [
        ("app@admin", f"sk-{TOKEN}"[:12], 1)
    ]
    assert rows(plane, "SELECT public_name, enabled FROM api_key WHERE name = 'app-2'") == [("app-2@admin", 0)]
    assert TOKEN not in first
    assert SECRET not in first
    assert one_api.read_bytes() == before


BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "content"),
    [
        ("litellm", b"\x00\xff\xfe"),
        ("litellm", b"key: [" + SECRET.encode()),
        ("litellm", b"!!python/object/apply:os.system ['true']"),
        ("litellm", b"[" * 100_000),
        ("litellm", b"model_list: 3"),
        ("litellm", b"a: 2024-99-99"),
        ("litellm", b"a: " + b"9" * 5000),
        ("litellm", b"#" * 5_000_001),
        ("litellm", BOMB.encode()),
        ("one-api", b""),
        ("one-api", b"not a database at all, but long enough to be one" * 40),
    ],
    ids=["binary", "open", "object", "deep", "types", "date", "digits", "large", "bomb", "empty", "not-sqlite"],
)
def test_what_cannot_be_read_is_one_clear_line(
    plane: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, content: bytes
) -> None:
    file = tmp_path / "source"
    file.write_bytes(content)
    capsys.readouterr()
    for path in (file, tmp_path, tmp_path / "missing"):
        assert main(["import", source, str(path), "--config", str(plane)]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.count("\n") == 1
        assert SECRET not in output.err
    assert rows(plane, "SELECT name FROM endpoint") == []


@pytest.mark.parametrize(
    "entry",
    [
        "3",
        "{}",
        "{model_name: 1}",
        "{model_name: '*', litellm_params: {model: 'openai/*'}}",
        "{model_name: a, litellm_params: {model: x/y, api_key: [], api_base: {}}}",
        "{model_name: a, litellm_params: {model: x/y, api_base: 'http://[', rpm: -1, weight: .nan}}",
    ],
)
def test_an_odd_entry_is_reported_and_the_others_are_taken(tmp_path: Path, entry: str) -> None:
    good = "{model_name: good, litellm_params: {model: gpt-4o, api_key: k, weight: .inf, rpm: [], timeout: x}}"
    plan = of_litellm(tmp_path, f"model_list:\n- {entry}\n- {good}\nrouter_settings: {{fallbacks: 3}}\n")
    assert [route.name for route in plan.routes] == ["good"]
    assert "not mapped" in report(plan)
