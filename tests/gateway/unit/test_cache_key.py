"""Which requests are equal for the response cache, for any callers and bodies: never those of two tenants."""

from __future__ import annotations

import copy
import random
import time
from typing import Any

import orjson
from hypothesis import given, settings, strategies as st

from gateway.api.chat import CHAT
from gateway.api.completions import COMPLETIONS
from gateway.api.messages import MESSAGES
from gateway.cache.entry import Entry, Sealed
from gateway.cache.key import IGNORED, canonical, digest
from gateway.cache.memory import EXACT, OVERHEAD, Memory, Question, vector
from gateway.context import Context
from gateway.contract import snapshot as wire
from gateway.protocols.canonical import Usage
from gateway.runtime import CacheRule, KeyRecord, Route, Runtime
from gateway.snapshot.compile import compile_snapshot

NAMES = ("a", "b", "key", "team", "1", "a1", "组")
TEAMS = ("a", "b", "key", "组")
ROUTES = ("r1", "r2", "r3", "r4")
SECRETS = {
    f"{name}@{team}": f"{at:064x}" for at, (name, team) in enumerate((n, t) for n in NAMES for t in (*TEAMS, ""))
}


def runtime(price: int = 1) -> Runtime:
    snapshot = wire.Snapshot.model_validate(
        {
            "endpoint": [{"name": "up", "provider": "openai", "base_url": "http://127.0.0.1:1/v1"}],
            "route": [
                {
                    "name": name, "aliases": [f"{name}-alias"], "target": [{"endpoint": "up", "model": "m"}],
                    "cache": {"scope": "team" if name in ("r1", "r2") else "key"}, "price": {"input": price},
                    **({"system_prompt": "s"} if name == "r2" else {}),
                }
                for name in ROUTES
            ],
            "team": [{"name": name} for name in TEAMS],
            "key": [
                {"name": name.replace("@", "/"), "sha256": sha, "team": name.partition("@")[2] or None}
                for name, sha in SECRETS.items()
            ],
        }
    )  # fmt: skip
    return compile_snapshot(snapshot)


RUNTIME = runtime()
KEYS = list(RUNTIME.keys.values())
OPERATIONS = {"chat": CHAT, "messages": MESSAGES, "completions": COMPLETIONS}
TEXTS = st.sampled_from(["", "x", "y", "1", "x\n", "键"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0]) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
BODIES = st.fixed_dictionaries(
    {"messages": st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": TEXTS}), min_size=1, max_size=2)},
    optional={"temperature": st.sampled_from([0, 1]), "seed": st.integers(0, 1), "odd": VALUES, "user": TEXTS,
              "stream": st.booleans(), "metadata": st.dictionaries(TEXTS, TEXTS, max_size=1)},
)  # fmt: skip
REQUESTS = st.tuples(
    st.sampled_from(KEYS), st.sampled_from(ROUTES), st.booleans(), st.sampled_from(list(OPERATIONS)), BODIES, TEXTS
)


def context(key: KeyRecord, name: str, operation: str, body: dict[str, Any], model: str) -> Context:
    call = OPERATIONS[operation].parse(orjson.dumps({**body, "model": model}))
    return Context(OPERATIONS[operation], RUNTIME, key, call, RUNTIME.routes[name], "i", "r", time.monotonic(), 0.0)


def rule_of(route: Route) -> CacheRule:
    assert route.watched is not None
    assert route.watched.cache is not None
    return route.watched.cache


def told(request: tuple[Any, ...]) -> tuple[bytes, tuple[Any, ...]]:
    """(its digest, what it is equal by, found in the plainest way)."""
    key, name, alias, operation, body, header = request
    model = f"{name}-alias" if alias else name
    ctx = context(key, name, operation, body, model)
    rule = rule_of(ctx.route)
    tenant = ("team", key.team) if rule.spec.scope == "team" and key.team else ("key", key.name)
    kept = {member: value for member, value in body.items() if member not in IGNORED}
    stream = operation == "completions" and bool(body.get("stream"))
    equal_by = (tenant, name, model, operation, orjson.dumps(kept, option=orjson.OPT_SORT_KEYS), header, stream)
    found = digest(ctx, rule, {b"openai-beta": header.encode()})
    assert found is not None
    return found, equal_by


@settings(max_examples=400, deadline=None)
@given(REQUESTS, REQUESTS)
def test_two_requests_are_equal_exactly_if_all_that_counts_is_and_never_across_tenants(one, other):
    (first, same_by), (second, others) = told(one), told(other)
    assert (first == second) == (same_by == others)
    mine, theirs = one[0], other[0]
    if first == second:
        assert mine.team == theirs.team
        assert mine.name == theirs.name or (mine.team and rule_of(RUNTIME.routes[one[1]]).spec.scope == "team")


@settings(max_examples=100, deadline=None)
@given(REQUESTS, st.randoms(use_true_random=False))
def test_the_order_of_members_is_none_of_it(request_, dice):
    key, name, alias, operation, body, header = request_
    members = list(body.items())
    dice.shuffle(members)
    assert told(request_)[0] == told((key, name, alias, operation, dict(members), header))[0]


def test_what_a_step_has_made_of_it_counts_beside_what_the_client_sent():
    def of(sent: str, made: str | None) -> bytes:
        ctx = context(KEYS[0], "r1", "chat", {"messages": [{"role": "user", "content": sent}]}, "r1")
        ctx.document = {"messages": made} if made is not None else None
        return digest(ctx, rule_of(ctx.route), {})

    made = {of(sent, told) for sent in ("x", "y") for told in (None, "1", "2")}
    assert len(made) == 6, "a mask that two numbers share does not make them one"


def test_a_price_or_any_other_change_of_a_route_is_another_version():
    def version(of: Runtime) -> bytes:
        return rule_of(of.routes["r1"]).version

    assert version(runtime()) == version(RUNTIME) != version(runtime(2))
    assert len({rule_of(RUNTIME.routes[name]).version for name in ROUTES}) == 4


def test_a_changed_endpoint_fallback_or_embedder_is_another_version():
    base = {
        "endpoint": [
            {"name": name, "provider": "openai", "base_url": "http://127.0.0.1:1/v1"} for name in ("up", "far", "vec")
        ],
        "route": [
            {"name": "a", "target": [{"endpoint": "up", "model": "m"}], "fallback": "b",
             "cache": {"semantic": {"route": "v"}}},
            {"name": "b", "target": [{"endpoint": "far", "model": "m"}]},
            {"name": "v", "target": [{"endpoint": "vec", "model": "m"}]},
            {"name": "other", "target": [{"endpoint": "far", "model": "x"}]},
        ],
    }  # fmt: skip

    def version(change: Any = None) -> bytes:
        document = copy.deepcopy(base)
        if change is not None:
            change(document)
        return rule_of(compile_snapshot(wire.Snapshot.model_validate(document)).routes["a"]).version

    changes = [
        lambda d: d["endpoint"][0].update(base_url="http://127.0.0.1:2/v1"),
        lambda d: d["endpoint"][1].update(base_url="http://127.0.0.1:2/v1"),
        lambda d: d["endpoint"][2].update(base_url="http://127.0.0.1:2/v1"),
        lambda d: d["route"][1].update(system_prompt="x"),
        lambda d: d["route"][2]["target"][0].update(model="n"),
    ]
    assert len({version(), *map(version, changes)}) == 6
    assert version(lambda d: d["endpoint"][0].update(api_key="rotated")) == version(), (
        "a new credential changes nothing"
    )
    assert version(lambda d: d["route"][3].update(system_prompt="x")) == version()


ENTRIES = st.builds(
    Entry, st.binary(max_size=200), st.booleans(), st.booleans(), st.builds(Usage, *[st.integers(0, 9)] * 5),
    st.sampled_from(["provider", "estimated"]), st.integers(0, 2**53), st.floats(0, 2**33),
)  # fmt: skip


@settings(deadline=None)
@given(ENTRIES, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(0, 10_000))
def test_only_who_knows_the_request_can_read_or_forge_an_entry(entry, mine, other, place):
    sealed = Sealed.of(mine)
    data = sealed.seal(entry)
    assert sealed.open(data) == entry
    assert mine.hex() not in sealed.name
    if mine != other:
        assert Sealed.of(other).name != sealed.name
        assert Sealed.of(other).open(data) is None
    at = place % len(data)
    assert sealed.open(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) is None
    assert sealed.open(data[:at]) is None


STEPS = st.lists(
    st.tuples(st.sampled_from("pgns"), st.integers(0, 5), st.integers(0, 3000), st.integers(0, 3)), max_size=60
)


@settings(deadline=None)
@given(STEPS)
def test_memory_is_bounded_whatever_happens_and_forgets_nothing_else(steps):
    memory, now = Memory(6 * OVERHEAD), 0.0
    model: dict[bytes, tuple[int, float]] = {}
    for kind, number, size, more in steps:
        name, now = b"%d" % number, now + 1.0
        question = Question(b"p%d" % (number % 2), vector([1.0, float(number), 0.5])) if more else None  # type: ignore[arg-type]
        if kind == "p":
            entry = Entry(b"x" * size, False, False, Usage(), "provider", number, now)
            memory.put(name, entry, now + 10.0, question, more)
            model[name] = (size, now + 10.0)
        elif kind == "g":
            found = memory.get(name, now)
            assert found is None or (len(found.body), found.cost) == (model[name][0], number)
            assert found is None or now < model[name][1]
        elif kind == "n" and question is not None:
            memory.nearest(question, 0.9, now, 100.0)
        else:
            memory.sweep(now)
        assert 0 <= memory.held <= 6 * OVERHEAD
        assert (memory.held == 0) == (len(memory) == 0)
    memory.sweep(now + 100.0)
    assert (memory.held, len(memory), memory._questions) == (0, 0, {})


def test_the_nearest_of_many_questions_is_found_and_none_that_is_far():
    memory, dims, dice = Memory(10_000_000), 64, random.Random(1)
    numbers = [[dice.gauss(0.0, 1.0) for _ in range(dims)] for _ in range(1000)]
    for at, one in enumerate(numbers):
        entry = Entry(b"%d" % at, False, False, Usage(), "provider", 0, 1.0)
        found = vector(one)
        assert found is not None
        memory.put(b"%d" % at, entry, 100.0, Question(b"p", found), 1000)
    for at in (0, 500, 999):
        close = vector([value + 0.01 for value in numbers[at]])
        assert close is not None
        best = memory.nearest(Question(b"p", close), 0.95, 2.0, 60.0)
        assert best is not None
        assert best.body == b"%d" % at
        assert memory.nearest(Question(b"q", close), 0.95, 2.0, 60.0) is None, "another partition"
        assert memory.nearest(Question(b"p", close), 0.95, 50.0, 10.0) is None, "too old"
    odd = vector([(-1.0) ** dim for dim in range(dims)])
    assert odd is not None
    assert memory.nearest(Question(b"p", odd), 0.9, 2.0, 60.0) is None
    assert EXACT < 1000


def test_only_numbers_make_a_vector():
    for wrong in (None, [], [0.0, 0.0], ["1"], [1.0, None], [True], "AAAA", [1e308] * 9, {"a": 1}):
        assert vector(wrong) is None, wrong
    found = vector([3.0, -4.0])
    assert found is not None
    assert (found.signs, round(found.cosine(found), 6)) == (0b10, 1.0)
    other = vector([1.0, 2.0, 3.0])
    assert other is not None
    assert found.cosine(other) == 0.0


def test_canonical_leaves_the_document_alone():
    document = {"b": 1, "a": [1, {"z": 0, "y": 1}], "user": "u"}
    assert canonical(document) == b'{"a":[1,{"y":1,"z":0}],"b":1}'
    assert document["user"] == "u"
