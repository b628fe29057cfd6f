"""Every mistake in a configuration is reported with its place and its line, and all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.api.models import list_models
from gateway.errors import ConfigError
from gateway.routing.resolver import find_route
from gateway.snapshot.compile import compile_snapshot
from gateway.snapshot.file import load, report

GOOD = """\
[[endpoint]]
name = "up"
provider = "openai"
base_url = "http://127.0.0.1:1/v1"

[[route]]
name = "chat"
aliases = ["default"]
[[route.target]]
endpoint = "up"
model = "m"

[[team]]
name = "research"

[[key]]
name = "alice"
sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
team = "research"
"""


def problems(folder: Path, text: str) -> list[str]:
    """What `tunegate config check` says, without the file's name."""
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    try:
        _, snapshot = load(path)
        compile_snapshot(snapshot)
    except ConfigError as exc:
        return [line.removeprefix(f"{path}:") for line in report(path, exc)]
    return []


def test_the_good_configuration_has_no_mistake(tmp_path):
    assert problems(tmp_path, GOOD) == []


MISTAKES = [
    # (what is replaced, by what; line, place, a part of the sentence)
    ('endpoint = "up"', 'endpoint = "down"', 10, "route.0.target.0.endpoint", "no [[endpoint]] is named 'down'"),
    ('model = "m"\n', "", 9, "route.0.target.0.model", "only a wildcard route may leave it out"),
    ('model = "m"\n', 'model = "m"\nweight = 0\n', 6, "route.0.target", "none would be used"),
    ('provider = "openai"', 'provider = "oracle"', 3, "endpoint.0.provider", "no provider is called 'oracle'"),
    (
        'provider = "openai"',
        'provider = "openai"\noptions = { api = "respones" }',
        4,
        "endpoint.0.options.api",
        "Input should be 'auto', 'chat', 'responses' or 'both'",
    ),
    (
        'provider = "openai"',
        'provider = "openai"\noptions = { apis = "chat" }',
        4,
        "endpoint.0.options.apis",
        "options of openai: api",
    ),
    ('base_url = "http://127.0.0.1:1/v1"\n', "", 1, "endpoint.0.base_url", "base_url is missing"),
    ('"http://127.0.0.1:1/v1"', '"ftp://x"', 4, "endpoint.0.base_url", "is not an http:// or https:// URL"),
    ('"http://127.0.0.1:1/v1"', '"http://x/?a=1"', 4, "endpoint.0.base_url", "no query"),
    ('"http://127.0.0.1:1/v1"', '"http://me:secret@h/v1"', 4, "endpoint.0.base_url", "no user name or password"),
    ('v1"\n', 'v1"\napi_key = "env:NO_SUCH_VARIABLE"\n', 5, "endpoint.0.api_key", "NO_SUCH_VARIABLE is not set"),
    ('v1"\n', 'v1"\napi_key = "file:/no/such"\n', 5, "endpoint.0.api_key", "/no/such cannot be read"),
    ('v1"\n', 'v1"\nca_file = "/no/such.pem"\n', 5, "endpoint.0.ca_file", "/no/such.pem does not exist"),
    ('v1"\n', 'v1"\nca_file = "/etc/passwd"\n', 5, "endpoint.0.ca_file", "/etc/passwd is no PEM bundle"),
    ('v1"\n', 'v1"\nmax_connections = 0\n', 5, "endpoint.0.max_connections", "greater than or equal to 1"),
    ('v1"\n', 'v1"\nsurprise = 1\n', 5, "endpoint.0.surprise", "not known here"),
    ('"http://127.0.0.1:1/v1"', '"http://h:99999/v1"', 4, "endpoint.0.base_url", "Port out of range"),
    ('v1"\n', 'v1"\nproxy = "https://p:3128"\n', 5, "endpoint.0.proxy", "is not an http:// URL"),
    ('v1"\n', 'v1"\nheaders = { "a;b" = "c" }\n', 5, "endpoint.0.headers.a;b", "is not the name of a header"),
    ('v1"\n', 'v1"\nheaders = { Content-Length = "5" }\n', 5, "endpoint.0.headers.Content-Length", "by the gateway"),
    ('v1"\n', 'v1"\nforward_headers = ["transfer-encoding"]\n', 5, "endpoint.0.forward_headers.0", "gateway itself"),
    ('v1"\n', 'v1"\nforward_headers = ["Authorization"]\n', 5, "endpoint.0.forward_headers.0", "no upstream"),
    ('v1"\n', 'v1"\nheaders = { a = "b\\r\\nc: d" }\n', 5, "endpoint.0.headers", "line break"),
    ('["default"]', '["default", "default"]', 8, "route.0.aliases.1", "already names the route 'chat'"),
    ('["default"]', '["chat"]', 8, "route.0.aliases.0", "already names the route 'chat'"),
    ('["default"]\n', '[]\nfallback = "gone"\n', 9, "route.0.fallback", "no route is named 'gone'"),
    ('["default"]\n', '["x"]\nfallback = "x"\n', 9, "route.0.fallback", "aliases do not count"),
    ('["default"]\n', '[]\nfallback = "chat"\n', 9, "route.0.fallback", "chat → chat"),
    ('"chat"\n', '"chat/*"\ndraft = true\n', 8, "route.0.draft", "a draft is one model"),
    ('["default"]\n', '[]\nstrategy = "best"\n', 9, "route.0.strategy", "'weighted'"),
    ('["default"]\n', "[]\nprice = { input = -1 }\n", 9, "route.0.price.input", "greater than or equal to 0"),
    ('["default"]\n', '[]\nshadow = { endpoint = "down", model = "m" }\n', 9, "route.0.shadow.endpoint", "'down'"),
    ('["default"]\n', '[]\nshadow = { endpoint = "up" }\n', 9, "route.0.shadow.model", "only a wildcard"),
    ('["default"]\n', '[]\ncache = { ttl = 0 }\n', 9, "route.0.cache.ttl", "greater than 0"),
    ('["default"]\n', '[]\ncache = { scope = "all" }\n', 9, "route.0.cache.scope", "'team'"),
    ('["default"]\n', '[]\ncache = { semantic = { route = "gone" } }\n', 9, "route.0.cache.semantic.route", "'gone'"),
    ('["default"]\n', '[]\ncache = { semantic = { route = "chat" } }\n', 9, "route.0.cache.semantic.route", "its own"),
    ('["default"]\n', '[]\nlog = { bodies = "all" }\n', 9, "route.0.log.bodies", "'both'"),
    ('["default"]\n', '[]\nlog = { redact_patterns = ["(a+)+"] }\n', 9, "route.0.log.redact_patterns.0", "instead of"),
    ('team = "research"\n', 'team = "sales"\n', 19, "key.0.team", "no [[team]] is named 'sales'"),
    ('team = "research"\n', 'expires_at = 2027-01-01T00:00:00\n', 19, "key.0.expires_at", "needs a time zone"),
    ('team = "research"\n', 'cidrs = ["10.0.0.300/8"]\n', 19, "key.0.cidrs", "10.0.0.300"),
    ('sha256 = "2c', 'sha256 = "2C', 18, "key.0.sha256", "pattern"),
    ('name = "research"\n', 'name = "research"\nbudget = [{ amount = 1, timezone = "Mars/Base" }]\n', 15,
     "team.0.budget.0.timezone", "is not a time zone name"),
    ('name = "research"\n', 'name = "research"\nbudget = [{ amount = 1 }, { amount = 2 }]\n', 15, "team.0.budget",
     "same window and time zone"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("good", "bad", "line", "place", "sentence"), MISTAKES, ids=[f"{m[3]}-{m[4][:24]}" for m in MISTAKES]
)
def test_a_mistake_is_reported_with_its_line_and_place(tmp_path, good, bad, line, place, sentence):
    assert GOOD.count(good) == 1
    (found,) = problems(tmp_path, GOOD.replace(good, bad))
    assert found.startswith(f"{line}: {place}: "), found
    assert sentence in found


APPENDED = [
    ('[[endpoint]]\nname = "up"\nprovider = "dummy"\n', 22, "endpoint.1.name", "another [[endpoint]] named 'up'"),
    ('[[route]]\nname = "chat"\n[[route.target]]\nendpoint = "up"\nmodel = "x"\n', 22, "route.1.name", "another"),
    ('[[team]]\nname = "research"\n', 22, "team.1.name", "another [[team]] named 'research'"),
    ('[[key]]\nname = "bob"\n', 21, "key.1", "needs exactly one of `key`"),
    ('[[key]]\nname = "bob"\nkey = "sk-plain"\n', 21, "key.1", "must be env:NAME or file:PATH"),
    ('[[key]]\nname = "bob"\nkey = "env:SHORT_KEY"\n', 23, "key.1.key", "at least 16 characters"),
    ('[[key]]\nname = "bob"\nsha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"\n', 21,
     "key.1", "the same secret as the key 'alice'"),
    ('[[route]]\nname = "none"\ntarget = []\n', 23, "route.1.target", "at least 1"),
    ("[surprise]\nx = 1\n", 21, "surprise", "not known here"),
    ("[gateway]\nworkers = 0\n", 22, "gateway.workers", "greater than or equal to 1"),
    ('[gateway]\nlisten = "8000"\n', 22, "gateway.listen", "is not address:port"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "line", "place", "sentence"), APPENDED, ids=[f"{m[2]}-{m[3][:24]}" for m in APPENDED])
def test_a_table_too_many_is_reported_with_its_line_and_place(tmp_path, monkeypatch, more, line, place, sentence):
    monkeypatch.setenv("SHORT_KEY", "too-short")
    (found,) = problems(tmp_path, GOOD + "\n" + more)
    assert found.startswith(f"{line}: {place}: "), found
    assert sentence in found


def test_all_mistakes_are_told_at_once(tmp_path):
    bad = GOOD.replace('endpoint = "up"', 'endpoint = "down"').replace('team = "research"', 'team = "sales"')
    bad = bad.replace('"default"', '"chat"')
    places = {line.split(": ")[1] for line in problems(tmp_path, bad)}
    assert places == {"route.0.target.0.endpoint", "route.0.aliases.0", "key.0.team"}


@pytest.mark.parametrize(
    ("text", "place", "sentence"),
    [
        (GOOD.replace('model = "m"', 'model = "m"\nweight = -1'), "route.0.target.0.weight", "or equal to 0"),
        (GOOD.replace('name = "up"', ""), "endpoint.0.name", "this key is missing"),
        ('[route]\nname = "m"\n', "route", "double brackets, such as [[route]]"),
        ("[[gateway]]\nworkers = 1\n", "gateway", "single brackets, such as [gateway]"),
    ],
)
def test_a_mistake_is_told_once_in_words_of_the_file(tmp_path, text, place, sentence):
    (found,) = problems(tmp_path, text)
    assert f"{place}: " in found
    assert sentence in found


def test_a_fallback_that_goes_in_circles_names_the_circle(tmp_path):
    target = '[[route.target]]\nendpoint = "up"\nmodel = "m"\n'
    more = f'[[route]]\nname = "a"\nfallback = "b"\n{target}[[route]]\nname = "b"\nfallback = "a"\n{target}'
    found = problems(tmp_path, GOOD + more)
    assert len(found) == 2
    assert "a → b → a" in found[0]


def test_a_file_that_is_not_toml_says_where(tmp_path):
    (found,) = problems(tmp_path, GOOD + "= 1\n")
    assert "this is not TOML" in found
    assert "line 20" in found


def test_a_gateway_that_everybody_reaches_needs_a_key(tmp_path):
    open_to_all = GOOD[: GOOD.index("[[team]]")] + '[gateway]\nlisten = "0.0.0.0:8000"\n'
    (found,) = problems(tmp_path, open_to_all)
    assert found.startswith("14: gateway.listen: ")
    assert "no [[key]]" in found
    assert problems(tmp_path, GOOD + '[gateway]\nlisten = "0.0.0.0:8000"\n') == []


@pytest.mark.parametrize(
    "quiet", ["", 'log = { bodies = "none" }\n', 'shadow = { endpoint = "up", model = "m", share = 0 }\n']
)
def test_a_route_that_keeps_and_copies_nothing_costs_its_requests_nothing(tmp_path, quiet):
    path = tmp_path / "config.toml"
    path.write_text(GOOD.replace('["default"]\n', f'["default"]\n{quiet}'))
    assert compile_snapshot(load(path)[1]).routes["chat"].watched is None


def test_a_draft_is_there_for_the_keys_that_have_its_name_and_nothing_leads_to_it(tmp_path):
    target = '[[route.target]]\nendpoint = "up"\nmodel = "m"\n'
    draft = f'[[route]]\nname = "next"\ndraft = true\n{target}'
    lines = problems(tmp_path, GOOD.replace('["default"]\n', '[]\nfallback = "next"\n') + draft)
    assert any("is a draft: nothing may lead to it" in line for line in lines)
    assert problems(tmp_path, GOOD + draft) == []
    path = tmp_path / "config.toml"
    wild = f'[[route]]\nname = "n*"\n{target}'
    named = '[[key]]\nname = "ci"\nmodels = ["next"]\nsha256 = "' + "1" * 64 + '"\n'
    path.write_text(GOOD + draft + wild + named, encoding="utf-8")
    runtime = compile_snapshot(load(path)[1])
    alice, ci = (next(key for key in runtime.keys.values() if key.name == name) for name in ("alice", "ci"))
    assert find_route(runtime, "next", ci).name == "next"
    assert find_route(runtime, "next", alice).name == "n*", "as if it were not there"
    assert "next" not in {one["id"] for key in (alice, ci) for one in list_models(runtime, key, 0)["data"]}
