"""Settlement: what a request is charged, and the one event that says so.

The table (docs/architecture.md shows it, tests/gateway/test_settlement.py checks every cell):

    end                            provider's usage known        not known
    success                        charge it                     prompt estimate + relayed, marked
    blocked by the guard           charge it                     prompt estimate + what the model had written, marked
    client gone after content      charge it                     prompt estimate + relayed, marked
    upstream error after content   charge it                     what was relayed, marked
    stopped after content          charge it                     what was relayed, marked
    anything before content        charge nothing                charge nothing

An answer that the route's cache gave is charged as the route says, of what it cost first, however it ends.
"""

from __future__ import annotations

import orjson

from gateway.context import Context, Retrieved
from gateway.protocols.canonical import Usage

NOTHING = Usage()


def settlement(ctx: Context) -> tuple[Usage, str, int]:
    """(tokens, usage_source, cost in nano-units) of a request that has ended."""
    if ctx.first_content is None or ctx.target is None:
        if ctx.first_content is None or (hit := ctx.cached) is None:
            return NOTHING, "none", 0
        return hit.usage, hit.source, hit.cost
    usage, source = ctx.usage, "provider"
    if usage is None:
        ours_to_guess = ctx.end in ("success", "blocked", "client_gone_partial")
        prompt = ctx.call.prompt_estimate if ours_to_guess else 0
        usage, source = Usage(input=prompt, output=ctx.relayed_tokens), "estimated"
    if (consultation := ctx.consultation) is None:
        return usage, source, ctx.target.prices.cost(usage)
    if source == "estimated":  # what the model's searches took may be known all the same
        usage = consultation.total(usage)
    source = "estimated" if consultation.estimated else source
    return usage, source, consultation.cost + ctx.target.prices.cost(consultation.since(usage))


# Written by hand because two events are made for every request, and encoding a dictionary twice costs as much as all
# limits together. Names come encoded from the compiled configuration; only the model is the client's own text.
_FACTS = b'{"id":"%b","ts":%.6f,"v":1,"request_id":"%b",%b,"operation":"%b","model":%b,%b,"snapshot":"%b","stream":%b,'
_OUTCOME = (
    b'"end":"%b","status":%d,"error":"%b","tokens":{"input":%d,"cache_read":%d,"cache_write":%d,"output":%d,'
    b'"reasoning":%d},"usage_source":"%b","cost_nano":%d,"ttft_ms":%b,"duration_ms":%.3f,'
)
_ATTEMPT = b'{"endpoint":%b,"model":%b,"status":%d,"error":"%b","ms":%.3f}'


def facts(ctx: Context) -> bytes:
    """The members that are known at admission and never change, encoded: what the spool opens a request with."""
    return _FACTS % (
        ctx.id.encode(),
        ctx.ts,
        ctx.request_id.encode(),
        ctx.key.facts,
        ctx.operation.name.encode(),
        ctx.call.encoded_model,
        ctx.route.facts,
        ctx.runtime.version.encode(),
        b"true" if ctx.call.stream else b"false",
    )


def closing(ctx: Context, usage: Usage, source: str, cost: int, ended: float) -> bytes:
    """The final event; `ended` is monotonic time."""
    endpoint, model, attempts = b"null", b"null", b""
    for attempt in ctx.attempts:
        endpoint, model = attempt.target.facts[0], attempt.model
        told = _ATTEMPT % (endpoint, model, attempt.status, attempt.error.encode(), attempt.ms)
        attempts = told if not attempts else attempts + b"," + told
    outcome = _OUTCOME % (
        ctx.end.encode(),
        ctx.status,
        ctx.error.encode(),
        *usage,
        source.encode(),
        cost,
        b"null" if ctx.first_content is None else b"%.3f" % ((ctx.first_content - ctx.started) * 1000.0),
        (ended - ctx.started) * 1000.0,
    )
    # joined: what is formatted beyond half a kilobyte is copied several times
    head = (ctx.facts, b'"endpoint":', endpoint, b',"upstream_model":', model, b",", outcome)
    return b"".join((*head, _steps(ctx), b'"attempts":[', attempts, b"]}"))


def _steps(ctx: Context) -> bytes:
    """What the route's steps did, as members of the event."""
    told = b"" if ctx.retrieved is None else _retrieval(ctx.retrieved)
    if ctx.guarded is not None:
        told += ctx.guarded.fact()
    if (hit := ctx.cached) is not None:
        told += b'"cache":{"result":"%b","age":%d,"saved_nano":%d},' % (hit.result.encode(), hit.age, hit.saved)
    return told


def _retrieval(found: Retrieved) -> bytes:
    text = b'"retrieval":{"outcome":"%b","passages":%d,"ms":%.3f,"indexes":%b,"trial":%b},'
    indexes, trial = orjson.dumps(dict(found.indexes)), b"true" if found.trial else b"false"
    return text % (found.outcome.encode(), len(found.passages), found.ms, indexes, trial)
