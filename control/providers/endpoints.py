"""`/api/v1/providers` and `/endpoints`: kinds of upstream API, accounts, credentials."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import select

from control import models
from control.deps import Db, Parts, allow
from control.gateways import breakers
from control.gateways.schemas import EndpointHistory
from control.kit.audit import note
from control.kit.pages import Page, Paging, Search, contains, paginate
from control.kit.permissions import Person
from control.kit.schemas import EndpointSpec
from control.kit.spans import Span
from control.providers import secrets, service
from control.providers.probe import probe
from control.providers.schemas import (
    Credential,
    CredentialCreate,
    Credentials,
    CredentialUpdate,
    Endpoint,
    EndpointCreate,
    EndpointUpdate,
    Provider,
    Providers,
    TestResult,
)
from gateway.contract.providers import KINDS

kinds = APIRouter(prefix="/providers", tags=["endpoints"])
router = APIRouter(prefix="/endpoints", tags=["endpoints"])
credentials = APIRouter(prefix="/endpoints/{name}/credentials", tags=["endpoints"])
Reader = Annotated[Person, Depends(allow("endpoints:read"))]
Writer = Annotated[Person, Depends(allow("endpoints:write"))]
Tester = Annotated[Person, Depends(allow("endpoints:test"))]


@kinds.get("")
async def list_providers(_: Reader) -> Providers:
    """Kinds of upstream API, with a form for the endpoints of each."""
    return Providers(items=[Provider(**kind.model_dump(), form=kind.form()) for kind in KINDS.values()])


@router.get("")
async def list_endpoints(session: Db, _: Reader, paging: Paging, search: Search = None) -> Page[Endpoint]:
    """Endpoints, by name."""
    query = select(models.Endpoint).order_by(models.Endpoint.name)
    if search:
        query = query.where(contains(search, [models.Endpoint.name, models.Endpoint.provider]))
    page = await paginate(session, query, paging, lambda row: row)
    held = await service.credentials_of(session, page.items)
    items = [_shown(row, [credential for credential in held if credential.endpoint_id == row.id]) for row in page.items]
    return Page(items=items, total=page.total, page=page.page, per_page=page.per_page)


@router.post("", status_code=201)
async def create_endpoint(body: EndpointCreate, session: Db, person: Writer) -> Endpoint:
    """Add an endpoint; its credentials are added afterwards."""
    return _shown(await service.create(session, person, body), [])


@router.get("/{name}")
async def get_endpoint(name: str, session: Db, _: Reader) -> Endpoint:
    """One endpoint, its credentials masked."""
    endpoint = await service.find(session, name)
    return _shown(endpoint, await service.credentials_of(session, [endpoint]))


@router.patch("/{name}")
async def update_endpoint(name: str, body: EndpointUpdate, session: Db, person: Writer) -> Endpoint:
    """Change an endpoint; gateways know within two seconds."""
    endpoint = await service.update(session, person, name, body)
    return _shown(endpoint, await service.credentials_of(session, [endpoint]))


@router.delete("/{name}", status_code=204)
async def delete_endpoint(name: str, session: Db, person: Writer) -> None:
    """Take an endpoint away; 409 while a route uses it."""
    await service.delete(session, person, name)


@router.get("/{name}/history")
async def get_endpoint_history(name: str, session: Db, _: Reader, span: Span) -> EndpointHistory:
    """When gateways kept the targets of an endpoint from requests, and why: their breakers were not closed."""
    endpoint = await service.find(session, name)
    return await breakers.history(session, endpoint.name, *span)


@router.post("/{name}/test")
async def test_endpoint(name: str, session: Db, parts: Parts, person: Tester) -> TestResult:
    """Ask the upstream for its models, with the first enabled credential. Saves nothing."""
    endpoint, secret = await secrets.first_in_clear(session, parts.vault, name)
    await session.commit()  # others may write while the upstream is being waited for
    result = await probe(parts.outbound, endpoint, secret)
    async with parts.db.write() as afterwards:
        seen = {"ok": result.ok, "code": result.code, "status": result.status, "base_url": endpoint.spec["base_url"]}
        note(afterwards, person.actor, "test", "endpoint", name, after=seen)
    return result


@credentials.get("")
async def list_credentials(name: str, session: Db, _: Reader) -> Credentials:
    """Credentials of an endpoint, masked."""
    held = await service.credentials_of(session, [await service.find(session, name)])
    return Credentials(items=[_masked(row) for row in held])


@credentials.post("", status_code=201)
async def create_credential(name: str, body: CredentialCreate, session: Db, parts: Parts, person: Writer) -> Credential:
    """Add a secret. It is sealed, used by gateways, and never shown again."""
    return _masked(await secrets.add(session, parts.vault, person, name, body))


@credentials.patch("/{credential}")
async def update_credential(
    name: str, credential: str, body: CredentialUpdate, session: Db, person: Writer
) -> Credential:
    """Use a credential, or do not."""
    return _masked(await secrets.enable(session, person, name, credential, body.enabled))


@credentials.delete("/{credential}", status_code=204)
async def delete_credential(name: str, credential: str, session: Db, person: Writer) -> None:
    """Forget a secret."""
    await secrets.delete(session, person, name, credential)


def _masked(row: models.Credential) -> Credential:
    return Credential.model_validate(row, from_attributes=True)


def _shown(row: models.Endpoint, held: list[models.Credential]) -> Endpoint:
    return Endpoint(
        name=row.name,
        provider=row.provider,
        spec=EndpointSpec.model_validate(row.spec),
        enabled=row.enabled,
        credentials=[_masked(credential) for credential in held],
        created_at=row.created_at,
        updated_at=row.updated_at,
        row_version=row.row_version,
    )
