"""An operation of control has what it asks for without a walk to a thread, as FastAPI makes for plain functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from control import api


def needed(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    """What a route calls, and all that this needs."""
    assert dependant.call is not None
    yield dependant.call
    for one in dependant.dependencies:
        yield from needed(one)


def is_async(call: Callable[..., Any]) -> bool:
    if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        return True
    return inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004


def test_no_operation_and_nothing_that_it_asks_for_is_a_plain_function() -> None:
    every = (context.original_route for context in iter_route_contexts(api.router.routes))
    routes = [route for route in every if isinstance(route, APIRoute)]
    assert len(routes) > 200
    plain = {f"{call.__module__}.{call.__qualname__}" for route in routes for call in needed(route.dependant)
             if not is_async(call)}  # fmt: skip
    assert not plain
