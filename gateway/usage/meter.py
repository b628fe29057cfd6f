"""Settlement: what a request is charged, and the one event that says so.

The table (docs/architecture.md shows it, tests/gateway/test_settlement.py checks every cell):

    end                            provider's usage known        not known
    success                        charge it                     prompt estimate + relayed, marked
    client gone after content      charge it                     prompt estimate + relayed, marked
    upstream error after content   charge it                     what was relayed, marked
    stopped after content          charge it                     what was relayed, marked
    anything before content        charge nothing                charge nothing
"""

from __future__ import annotations

import time

import orjson

from gateway.context import Context
from gateway.providers.base import Usage

NOTHING = Usage()


def settlement(ctx: Context) -> tuple[Usage, str, int]:
    """(tokens, usage_source, cost in nano-units) of a request that has ended."""
    if ctx.end == "success" or ctx.end.endswith("_partial") or (ctx.end == "stopped" and ctx.first_content):
        if ctx.usage is not None:
            usage, source = ctx.usage, "provider"
        else:
            ours_to_guess = ctx.end in ("success", "client_gone_partial")
            prompt = ctx.call.prompt_estimate if ours_to_guess else 0
            usage, source = Usage(input=prompt, output=ctx.relayed_tokens), "estimated"
        return usage, source, ctx.target.prices.cost(usage) if ctx.target else 0
    return NOTHING, "none", 0


def opening(ctx: Context) -> bytes:
    """The event as it stands at admission: what becomes of the request if this process dies."""
    return _event(ctx, "interrupted", NOTHING, "none", 0, None, 0.0)


def closing(ctx: Context, usage: Usage, source: str, cost: int) -> bytes:
    """The final event."""
    ttft = None if ctx.first_content is None else _ms(ctx.first_content - ctx.started)
    return _event(ctx, ctx.end, usage, source, cost, ttft, _ms(time.monotonic() - ctx.started))


def _ms(seconds: float) -> float:
    return round(seconds * 1000.0, 3)


def _event(
    ctx: Context, end: str, usage: Usage, source: str, cost: int, ttft_ms: float | None, duration_ms: float
) -> bytes:
    key, call, route, target = ctx.key, ctx.call, ctx.route, ctx.target
    return orjson.dumps(
        {
            "id": ctx.id,
            "ts": ctx.ts,
            "v": 1,
            "request_id": ctx.request_id,
            "key": key.name,
            "team": key.team,
            "operation": ctx.operation.name,
            "model": call.model,
            "route": route.name,
            "endpoint": target.endpoint.name if target else None,
            "upstream_model": (target.model or call.model) if target else None,
            "snapshot": ctx.runtime.version,
            "stream": call.stream,
            "end": end,
            "status": ctx.status,
            "error": ctx.error,
            "tokens": {
                "input": usage.input,
                "cache_read": usage.cache_read,
                "cache_write": usage.cache_write,
                "output": usage.output,
                "reasoning": usage.reasoning,
            },
            "usage_source": source,
            "cost_nano": cost,
            "ttft_ms": ttft_ms,
            "duration_ms": duration_ms,
            "attempts": [
                {
                    "endpoint": a.target.endpoint.name,
                    "model": a.target.model or call.model,
                    "status": a.status,
                    "error": a.error,
                    "ms": a.ms,
                }
                for a in ctx.attempts
            ],
        }
    )
