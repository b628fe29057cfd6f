"""Credentials of endpoints: sealed when they come in, and in clear only on their way to a gateway or upstream."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import FieldError, Problem, duplicate, invalid, not_found
from control.kit.audit import Actor, note
from control.kit.permissions import Person
from control.models import Credential, Endpoint
from control.models.base import new_id, now
from control.providers.schemas import CredentialCreate
from control.providers.service import credentials_of, find, find_to_change
from control.security import Sealed, Vault

MOST = 50
"""Credentials of one endpoint: each is an endpoint of its own for the gateways."""
_REFERENCES = ("env:", "file:", "sealed:")
_LONG_ENOUGH = 20


async def add(session: AsyncSession, vault: Vault, person: Person, endpoint: str, body: CredentialCreate) -> Credential:
    """Seal a secret for an endpoint."""
    owner = await find_to_change(session, endpoint)
    if body.secret.lower().startswith(_REFERENCES):
        message = "env:, file: and sealed: would make the gateway read its own environment: give the secret itself"
        raise invalid([FieldError(at="body.secret", message=message)])
    held = await credentials_of(session, [owner])
    if any(credential.name == body.name for credential in held):
        raise duplicate("credential of this endpoint", body.name)
    if len(held) >= MOST:
        raise Problem(409, "too_many", f"an endpoint has at most {MOST} credentials")
    identity = new_id()
    sealed = vault.seal(body.secret, owner=identity)
    credential = Credential(
        id=identity, endpoint_id=owner.id, name=body.name, sealed=sealed.sealed, wrapped_key=sealed.wrapped_key,
        kek_id=sealed.kek_id, masked=masked(body.secret), enabled=True, created_at=now(), created_by=person.username,
    )  # fmt: skip
    session.add(credential)
    await session.flush()
    note(session, person.actor, "create", "credential", f"{endpoint}/{body.name}", after={"enabled": True})
    return credential


async def enable(session: AsyncSession, person: Person, endpoint: str, name: str, enabled: bool) -> Credential:
    """Use a credential, or do not."""
    credential = await _find(session, endpoint, name)
    if credential.enabled != enabled:
        before, credential.enabled = {"enabled": credential.enabled}, enabled
        note(session, person.actor, "update", "credential", f"{endpoint}/{name}", before, {"enabled": enabled})
    return credential


async def delete(session: AsyncSession, person: Person, endpoint: str, name: str) -> None:
    """Forget a secret."""
    credential = await _find(session, endpoint, name)
    await session.delete(credential)
    note(session, person.actor, "delete", "credential", f"{endpoint}/{name}", before={"enabled": credential.enabled})


async def first_in_clear(session: AsyncSession, vault: Vault, endpoint: str) -> tuple[Endpoint, str | None]:
    """An endpoint and the secret of its first enabled credential, for a call that is about to be made."""
    row = await find(session, endpoint)
    enabled = [credential for credential in await credentials_of(session, [row]) if credential.enabled]
    if not enabled:
        return row, None
    first = enabled[0]
    try:
        return row, vault.open(Sealed(first.sealed, first.wrapped_key, first.kek_id), first.id)
    except ValueError as exc:
        text = f"the credential {first.name!r} does not open with this key-encryption key: give its secret again"
        raise Problem(409, "credential_unreadable", text) from exc


async def rotate(session: AsyncSession, vault: Vault, actor: Actor) -> int:
    """Wrap every credential anew under the vault's present key; returns how many were not. All of them, or none.

    What gateways get stays the same, so this makes no new snapshot: a control process that has not been given the new
    key yet would leave out what it cannot open.
    """
    query = select(Credential, Endpoint.name).join(Endpoint, Endpoint.id == Credential.endpoint_id)
    rows = (await session.execute(query.where(Credential.kek_id != vault.kek_id).with_for_update(of=Credential))).all()
    for row, endpoint in rows:
        try:
            moved = vault.rewrap(Sealed(row.sealed, row.wrapped_key, row.kek_id), row.id)
        except ValueError as exc:
            text = f"nothing was changed: the credential {row.name!r} of the endpoint {endpoint!r} is {exc}"
            raise Problem(409, "credential_unreadable", f"{text}; set [secrets] previous_key, or delete it") from exc
        change = update(Credential).where(Credential.id == row.id)
        await session.execute(change.values(wrapped_key=moved.wrapped_key, kek_id=moved.kek_id))
    if rows:
        note(session, actor, "rotate", "credentials", vault.kek_id, after={"count": len(rows)})
    return len(rows)


def masked(secret: str) -> str:
    """The form in which people recognise a secret; of a short one nothing is shown."""
    return f"{secret[:3]}…{secret[-4:]}" if len(secret) >= _LONG_ENOUGH else "…"


async def _find(session: AsyncSession, endpoint: str, name: str) -> Credential:
    owner = await find_to_change(session, endpoint)
    query = select(Credential).where(Credential.endpoint_id == owner.id, Credential.name == name)
    credential = await session.scalar(query)
    if credential is None:
        raise not_found("credential", name)
    return credential
