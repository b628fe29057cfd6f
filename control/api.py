"""Every router of the control API, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from control.audit.endpoints import router as audit
from control.auth.endpoints import router as auth
from control.chat.endpoints import router as chat
from control.comparisons.endpoints import router as suites
from control.comparisons.review_endpoints import router as reviews
from control.comparisons.run_endpoints import router as runs
from control.comparisons.schedule_endpoints import router as schedules
from control.comparisons.share_endpoints import router as shares
from control.comparisons.vote_endpoints import router as votes
from control.configuration.endpoints import router as configuration
from control.datasets.endpoints import router as datasets
from control.deployments.endpoints import router as adapters
from control.deps import Parts, allow, public
from control.gateways.endpoints import router as gateways
from control.internal.admin import router as service_tokens
from control.internal.endpoints import router as internal
from control.internal.trainer import router as internal_trainer
from control.jobs.endpoints import router as jobs, trainers
from control.keys.endpoints import router as keys
from control.kit.permissions import Person
from control.kit.schemas import example
from control.knowledge.endpoints import router as knowledge
from control.knowledge.evaluation_endpoints import router as test_sets
from control.prices.endpoints import router as prices
from control.providers.endpoints import credentials, kinds, router as endpoints
from control.routes.endpoints import router as routes
from control.teams.endpoints import router as teams
from control.usage.endpoints import router as usage
from control.usage.requests import router as requests
from control.users.endpoints import router as users

router = APIRouter(generate_unique_id_function=lambda route: route.name)
PARTS = (
    auth, users, teams, keys, kinds, endpoints, credentials, routes, prices, service_tokens, usage, requests, audit,
    configuration, chat, gateways, datasets, jobs, trainers, adapters, knowledge, test_sets, suites, schedules, runs,
    reviews, shares, votes,
)  # fmt: skip
router.include_router(internal)  # first: gateways ask most often, and routes are tried in this order
router.include_router(internal_trainer)
for part in PARTS:
    router.include_router(part, prefix="/api/v1")


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


@router.get("/healthz", tags=["health"])
async def healthz(_: Annotated[None, Depends(public)]) -> Health:
    """Whether the process answers; says nothing about the database."""
    return Health()


class About(BaseModel):
    """What a client of this API needs to know of the installation."""

    model_config = example(version="0.1.0", gateway_url="https://llm.example.com")

    version: str
    gateway_url: str
    """Where programs and browsers reach the gateway; OpenAI's base URL is this with `/v1`."""


@router.get("/api/v1/about", tags=["about"])
async def get_about(parts: Parts, _: Annotated[Person, Depends(allow("self"))]) -> About:
    """Version of this installation, and where its gateway is."""
    return About(version=metadata.version("tunegate"), gateway_url=parts.settings.console.gateway_url)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API, and who may call it."""

    method: str
    path: str
    name: str
    permission: str | None
    """None: it says none, or several. Such an app does not start."""


def operations(app: FastAPI) -> list[Operation]:
    """Every operation of the app."""
    found = []
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute):
            says = [getattr(dependency.call, "permission", None) for dependency in route.dependant.dependencies]
            permissions = [permission for permission in says if permission is not None]
            permission = permissions[0] if len(permissions) == 1 else None
            for method in sorted(route.methods or ()):
                found.append(Operation(method, str(context.path), route.name, permission))
    return found
