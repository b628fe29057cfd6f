"""`config check`, `route explain` and `usage`: what they say about a configuration and a ledger."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.routing.balancer import choose
from gateway.routing.health import HealthBook
from gateway.snapshot.compile import compile_snapshot
from gateway.snapshot.file import load

ROOT = Path(__file__).resolve().parents[2]
ENV = {"OPENAI_API_KEY": "sk-somewhere-else", "TUNEGATE_CI_KEY": "a-key-of-more-than-16-letters"}

GOOD = """
[gateway]
data_dir = "{data}"
[[endpoint]]
name = "fake"
provider = "dummy"
[[route]]
name = "cheap"
aliases = ["default"]
fallback = "safe"
price = {{ input = 1, output = 2 }}
limits = {{ rpm = 60 }}
shadow = {{ endpoint = "fake", model = "new", share = 0.05 }}
log = {{ bodies = "response", share = 0.5, keep_days = 7 }}
[[route.target]]
endpoint = "fake"
model = "a"
weight = 3
[[route.target]]
endpoint = "fake"
model = "b"
priority = 1
[[route]]
name = "safe"
[[route.target]]
endpoint = "fake"
model = "c"
[[key]]
name = "alice"
sha256 = "{digest}"
models = ["cheap"]
limits = {{ tpm = 1000 }}
"""


def command(*arguments: str, **env: str) -> tuple[int, str]:
    """Exit status and output of `python -m gateway …`."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(GOOD.format(data=tmp_path / "data", digest="ab" * 32))
    return file


def test_the_example_configuration_is_good():
    code, output = command("config", "check", "config.example.toml", **ENV)
    assert code == 0, output
    assert "3 endpoints, 4 routes, 1 teams, 2 keys" in output


MISTAKES = {
    "an unknown key": ('weight = 3', 'wieght = 3', "route.0.target.0.wieght"),
    "a wrong type": ("rpm = 60", 'rpm = "many"', "route.0.limits.rpm"),
    "an unknown endpoint": ('endpoint = "fake"\nmodel = "c"', 'endpoint = "lost"\nmodel = "c"', "lost"),
    "an unknown provider": ('provider = "dummy"', 'provider = "dumy"', "dumy"),
    "a fallback loop": ('name = "safe"', 'name = "safe"\nfallback = "cheap"', "cheap → safe → cheap"),
    "an alias twice": ('aliases = ["default"]', 'aliases = ["safe"]', "already names the route"),
    "a key without a secret": ('sha256 = "', '# sha256 = "', "exactly one of"),
}  # fmt: skip


@pytest.mark.parametrize(("good", "bad", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_each_mistake_is_reported_with_its_line(config, good, bad, says):
    text = config.read_text().replace(good, bad, 1)
    config.write_text(text)
    code, output = command("config", "check", str(config))
    assert code != 0
    assert says in output
    lines = [int(part.split(":")[0]) for part in output.split(f"{config}:")[1:]]
    table = text[: text.index(bad)].count("\n") + 1
    assert any(abs(line - table) <= 3 for line in lines), output


def test_broken_toml_is_reported_with_its_line(config):
    config.write_text(config.read_text() + "\nnonsense\n")
    code, output = command("config", "check", str(config))
    assert code != 0
    assert "at line" in output


def test_all_mistakes_are_reported_at_once(config):
    config.write_text(config.read_text().replace("weight = 3", "wieght = 3").replace("rpm = 60", "rpm = 0"))
    _, output = command("config", "check", str(config))
    assert "wieght" in output
    assert "rpm" in output


def test_explain_tells_the_targets_in_the_order_of_their_use(config):
    code, output = command("route", "explain", "default", "--key", "alice", "--config", str(config))
    assert code == 0
    assert "(alias)" in output
    assert output.index("fake/a") < output.index("fake/b") < output.index("'safe'") < output.index("fake/c")
    assert "1000 tokens/min" in output
    assert "60 requests/min" in output
    assert "shadow   fake/new: 5.00% of the requests are copied to dummy" in output
    assert "log      response: 50.00% of the requests, 262144 bytes a body, 7 days, without email, phone" in output


@pytest.mark.parametrize("asked", ["m", "before"])
def test_explain_begins_with_the_target_that_the_key_sticks_to(tmp_path, asked):
    targets = "".join(f'[[route.target]]\nendpoint = "fake"\nmodel = "{letter}"\n' for letter in "abcdefgh")
    keys = "".join(f'[[key]]\nname = "k{i}"\nsha256 = "{i:064x}"\n' for i in range(1, 4))
    path = tmp_path / "config.toml"
    path.write_text(
        f'[[endpoint]]\nname = "fake"\nprovider = "dummy"\n[[route]]\nname = "m"\nstrategy = "sticky"\n{targets}'
        '[[route]]\nname = "before"\nfallback = "m"\nsticky_by = "user"\n'
        f'[[route.target]]\nendpoint = "fake"\nmodel = "first"\n{keys}'
    )
    route = compile_snapshot(load(path)[1]).routes["m"]
    for i in range(1, 4):
        chosen = choose(route, HealthBook(), (), 0.0, sticky=f"k{i}")
        assert chosen is not None
        _, output = command("route", "explain", asked, "--key", f"k{i}", "--config", str(path))
        assert output.split("target   ")[1 if asked == "m" else 2].startswith(f"{chosen.id}:")


def test_explain_says_why_a_key_may_not(config):
    _, output = command("route", "explain", "safe", "--key", "alice", "--config", str(config))
    assert "403 policy_access" in output
    _, output = command("route", "explain", "nothing", "--config", str(config))
    assert "404 caller_unknown_model" in output


def test_usage_sums_the_ledger(config, tmp_path):
    ledger = tmp_path / "data" / "usage"
    ledger.mkdir(parents=True)
    tokens = {"input": 10, "cache_read": 1, "cache_write": 2, "output": 3, "reasoning": 4}
    event = {"ts": 1_800_000_000.0, "key": "alice", "team": None, "model": "m", "route": "m", "endpoint": "fake"}
    rows = [
        {**event, "end": end, "tokens": tokens, "cost_nano": 1_500_000_000} for end in ("success", "upstream_error")
    ]
    (ledger / "2027-01-15.w0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')
    code, output = command("usage", "--config", str(config), "--by", "key", "--csv")
    assert code == 0
    assert output.splitlines()[1] == "alice,2,1,26,14,3"
    assert command("usage", "--config", str(config), "--by", "shoe")[0] != 0
    assert "alice" not in command("usage", "--config", str(config), "--since", "2027-02-01")[1]


def test_a_file_with_control_and_routes_is_refused_with_the_lines(config):
    text = config.read_text() + '\n[control]\nurl = "http://127.0.0.1:8080"\ntoken = "env:TOKEN_OF_CONTROL"\n'
    config.write_text(text)
    code, output = command("config", "check", str(config))
    assert code != 0
    for table in ("endpoint", "route", "key"):
        line = text[: text.index(f"[[{table}]]")].count("\n") + 1
        assert f"{config}:{line}: {table}.0: [control] url is set" in output


CONTROL_MISTAKES = {
    "no token": ('url = "http://127.0.0.1:1"', "token is missing"),
    "a token in clear": ('url = "http://127.0.0.1:1"\ntoken = "st-tg-secret"', "env:NAME or file:PATH"),
    "a token that is not there": ('url = "http://127.0.0.1:1"\ntoken = "env:NOWHERE"', "NOWHERE is not set"),
    "a URL that is none": ('url = "control:8080"\ntoken = "env:PATH"', "is not an http:// or https:// URL"),
    "a bundle that is not there": (
        'url = "http://127.0.0.1:1"\ntoken = "env:PATH"\nca_file = "/nowhere.pem"',
        "/nowhere.pem does not exist",
    ),
}


@pytest.mark.parametrize(("lines", "says"), CONTROL_MISTAKES.values(), ids=CONTROL_MISTAKES.keys())
def test_a_mistake_in_the_control_table_is_told(tmp_path, lines, says):
    file = tmp_path / "config.toml"
    file.write_text(f"[control]\n{lines}\n")
    for arguments in (("config", "check", str(file)), ("serve", "--config", str(file))):
        code, output = command(*arguments)
        assert code != 0
        assert says in output
        assert "st-tg-secret" not in output


def test_with_control_the_ledger_and_the_routes_are_elsewhere(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[control]\nurl = "http://127.0.0.1:8080"\ntoken = "env:PATH"\n')
    assert command("config", "check", str(file))[0] == 0
    for arguments in (("usage",), ("route", "explain", "m")):
        code, output = command(*arguments, "--config", str(file))
        assert code != 0
        assert "http://127.0.0.1:8080" in output


def test_a_name_that_a_client_chose_breaks_neither_table_nor_csv(config, tmp_path):
    ledger = tmp_path / "data" / "usage"
    ledger.mkdir(parents=True)
    tokens = {"input": 1, "cache_read": 0, "cache_write": 0, "output": 1, "reasoning": 0}
    names = ['a,"b"', "c\nd", "e\x1b[2J"]
    rows = [
        {"ts": 1_800_000_000.0, "key": "k", "team": None, "model": name, "route": "m", "endpoint": "fake",
         "end": "success", "tokens": tokens, "cost_nano": 1}
        for name in names
    ]  # fmt: skip
    (ledger / "2027-01-15.w0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, output = command("usage", "--config", str(config), "--by", "model", "--csv")
    assert code == 0
    read = list(csv.reader(output.splitlines()))
    assert sorted(line[0] for line in read[1:]) == ['a,"b"', "c\\nd", "e\\x1b[2J"]
    assert {line[1] for line in read[1:]} == {"1"}
    _, output = command("usage", "--config", str(config), "--by", "model")
    assert len(output.splitlines()) == 2 + len(names)
    assert "\x1b" not in output
