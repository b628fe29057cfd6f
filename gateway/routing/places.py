"""Where a request goes that asks for no model: files and batches belong to an endpoint.

What exists already goes to the endpoint that has it, and only for the key that made it. A new batch goes where its
input file is. A new file goes to the endpoint of the route that the header `x-tunegate-model` names; without it to the
only endpoint with files that the key can reach, and if there are several, the caller has to say which.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import orjson

from gateway.context import Call, Context, Operation
from gateway.contract import snapshot as wire
from gateway.errors import GatewayError
from gateway.objects import Objects
from gateway.routing.resolver import resolve
from gateway.runtime import KeyRecord, Route, Runtime, Target

HEADER = b"x-tunegate-model"
_ID = re.compile(rb'"id"\s*:\s*"([\w.:-]{1,300})"')


class Places:
    """See the module."""

    def __init__(self, kept: Objects) -> None:
        self._objects = kept

    async def find(
        self, runtime: Runtime, key: KeyRecord, operation: Operation, call: Call, headers: dict[bytes, bytes]
    ) -> Route:
        """A route with one target, whose name becomes the call's model. GatewayError: nothing fits, or the object is
        not the key's.
        """
        if operation.name == "batch_create":
            _check_batch(key)
        if call.object:
            kind = "file" if operation.name == "batch_create" else operation.name.partition("_")[0]
            route = _at(runtime, await asyncio.to_thread(self._objects.find, key.name, kind, call.object))
        elif HEADER in headers:
            route = _named(runtime, key, operation.name, headers[HEADER].decode("latin-1"))
        else:
            route = _only(runtime, key, operation.name)
        call.model, call.encoded_model = route.name, orjson.dumps(route.name)
        return route

    def learn(self, ctx: Context, body: bytes) -> None:
        """Note whose the object is that an endpoint has made or told, or that it is gone."""
        kind, _, what = ctx.operation.name.partition("_")
        if what == "delete":
            self._objects.forget(ctx.key.name, kind, ctx.call.object)
            return
        document = orjson.loads(body)
        if ctx.target is not None and isinstance(document, dict):
            self._objects.note(ctx.key.name, ctx.target.endpoint.name, document)

    def learn_response(self, ctx: Context, opening: bytes) -> None:
        """Note whose the response is that an endpoint has made; `opening`: the first bytes of its answer."""
        found = _ID.search(opening)
        if found is not None and ctx.target is not None:
            document = {"id": found[1].decode("latin-1"), "object": "response"}
            self._objects.note(ctx.key.name, ctx.target.endpoint.name, document)


def _check_batch(key: KeyRecord) -> None:
    """The lines of a batch name models that nobody here sees, and what they cost is known when it is over."""
    if not key.may_use(""):
        text = (
            f"The API key {key.name!r} may not make batches: it is granted only some models, and a batch names its own."
        )
        raise GatewayError("policy_access", text)
    if key.has_budget or any(scope.tpm for scope in key.scopes):
        text = f"The API key {key.name!r} may not make batches: what they use would count for none of its limits."
        raise GatewayError("policy_access", text)


def _at(runtime: Runtime, endpoint: str) -> Route:
    for route in _routes(runtime):
        for tier in route.tiers:
            for target in tier:
                if target.endpoint.name == endpoint:
                    return _alone(route, target)
    text = f"The endpoint {endpoint!r} that has it is not configured any more."
    raise GatewayError("caller_not_found", text, param="id")


def _named(runtime: Runtime, key: KeyRecord, operation: str, model: str) -> Route:
    route = resolve(runtime, key, model)
    for target in _targets(route):
        if operation in target.endpoint.wires:
            return _alone(route, target)
    text = f"No endpoint of the model {model[:200]!r} has an API for {operation}."
    raise GatewayError("caller_unsupported", text, param=HEADER.decode())


def _only(runtime: Runtime, key: KeyRecord, operation: str) -> Route:
    found: dict[str, Route] = {}
    for route in _routes(runtime):
        if key.may_use(route.name) and key.sees(route):
            for target in _targets(route):
                if operation in target.endpoint.wires:
                    found.setdefault(target.endpoint.name, _alone(route, target))
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        text = f"No endpoint that the API key {key.name!r} can reach has an API for {operation}."
        raise GatewayError("caller_unsupported", text)
    some = ", ".join(sorted({route.name for route in found.values()})[:10])
    text = f"Say which provider it is for: name one of its models in the header {HEADER.decode()}, such as {some}."
    raise GatewayError("caller_bad_request", text, param=HEADER.decode())


def _routes(runtime: Runtime) -> list[Route]:
    return [*runtime.routes.values(), *runtime.wildcards]


def _targets(route: Route) -> list[Target]:
    return [target for tier in route.tiers for target in tier if target.weight]


def _alone(route: Route, target: Target) -> Route:
    """The route with this target only: no other one has the object."""
    once = wire.Retry(max_attempts=1)
    return replace(route, tiers=((target,),), sole=target, strategy="weighted", fallback=None, retry=once)
