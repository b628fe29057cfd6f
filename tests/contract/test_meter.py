"""The events that the gateway writes by hand, for speed, are valid events of the contract."""

from __future__ import annotations

import time

import orjson
from hypothesis import given, strategies as st

from gateway.context import AttemptRecord, Cached
from gateway.contract.usage import End, UsageEvent
from gateway.errors import VOCABULARY
from gateway.protocols.canonical import Usage
from gateway.usage import meter
from gateway.usage.spool import ID_END, ID_START, interrupted
from tests.fakes.runtime import DIGEST, compiled, context, route

PRICE = {"input": 2, "output": 3}
RUNTIME = compiled(
    version="file:0123456789ab",
    route=[
        route("模型/x:1", {"endpoint": "a", "price": {"input": 2, "output": 3}}, {"endpoint": "b", "model": 'q"\\'})
    ],
    team=[{"name": "t"}],
    key=[{"name": "k+1", "sha256": DIGEST, "team": "t"}],
)
TARGETS = next(iter(RUNTIME.routes.values())).tiers[0]
COUNTS = st.integers(0, 10**9)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
ATTEMPTS = st.lists(
    st.tuples(st.sampled_from(TARGETS), st.sampled_from(["", *VOCABULARY]), st.integers(0, 599), st.floats(0, 1e7)),
    max_size=4,
)


@given(
    model=TEXT,
    stream=st.booleans(),
    attempts=ATTEMPTS,
    end=st.sampled_from(End.__args__),
    error=st.sampled_from(["", *VOCABULARY]),
    usage=st.none() | st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
    content=st.booleans(),
    relayed=COUNTS,
    cached=st.none()
    | st.builds(
        Cached,
        st.sampled_from(["hit", "semantic", "miss", "bypass"]),
        COUNTS,
        st.builds(Usage, *[COUNTS] * 5),
        st.sampled_from(["provider", "estimated"]),
        COUNTS,
        COUNTS,
    ),
)
def test_an_event_of_the_meter_validates_and_says_what_the_context_says(
    model, stream, attempts, end, error, usage, content, relayed, cached
):
    body = orjson.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
    ctx = context(RUNTIME, body)
    ctx.facts = meter.facts(ctx)
    ctx.attempts = [
        AttemptRecord(target, 0.0, target.facts[1], status, code, ms) for target, code, status, ms in attempts
    ]
    ctx.target = attempts[-1][0] if attempts else None
    hit = cached is not None and cached.result in ("hit", "semantic")
    ctx.cached = cached if hit != bool(attempts) else None  # a hit has no attempt, and nothing else is so
    ctx.end, ctx.error, ctx.usage, ctx.relayed_tokens = end, error, usage, relayed
    ctx.first_content = ctx.started + 0.25 if content else None

    charged, source, cost = meter.settlement(ctx)
    line = meter.closing(ctx, charged, source, cost, time.monotonic())
    event = UsageEvent.model_validate_json(line)

    assert b"\n" not in line, "one line of the ledger"
    assert line[ID_START:ID_END].decode() == event.id == ctx.id, "the spool and the sink read the id by its place"
    assert (event.model, event.stream, event.end, event.error) == (model, stream, end, error)
    assert (event.key, event.team, event.route, event.snapshot) == ("k+1", "t", "模型/x:1", "file:0123456789ab")
    assert [(a.endpoint, a.model) for a in event.attempts] == [(t.endpoint.name, t.model) for t, *_ in attempts]
    assert sum(event.tokens.model_dump().values()) == charged.total
    outcome = (event.cache.result, event.cache.age, event.cache.saved_nano) if event.cache is not None else None
    assert outcome == (None if ctx.cached is None else (ctx.cached.result, ctx.cached.age, ctx.cached.saved))
    if content and not attempts and ctx.cached is not None:
        assert (event.usage_source, event.cost_nano, charged) == (cached.source, cached.cost, cached.usage)
    elif not content or not attempts:
        assert (event.usage_source, event.cost_nano, charged.total) == ("none", 0, 0)
    elif usage is not None:
        assert (event.usage_source, charged) == ("provider", usage)
    else:
        assert event.usage_source == "estimated"


@given(model=TEXT)
def test_the_facts_that_a_request_was_opened_with_make_the_event_that_a_dead_process_leaves_behind(model):
    ctx = context(RUNTIME, orjson.dumps({"model": model, "messages": [1]}))
    opened = meter.facts(ctx)
    left = interrupted(opened)
    event = UsageEvent.model_validate_json(left)
    assert interrupted(left) == left, "as earlier gateways opened it: a whole event"
    assert left[ID_START:ID_END] == opened[ID_START:ID_END] == ctx.id.encode()
    assert (event.end, event.cost_nano, event.usage_source, event.attempts) == ("interrupted", 0, "none", ())
