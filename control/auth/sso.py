"""Who may come in by single sign-on, as whom: accounts are linked by (issuer, subject), and by nothing else.

A name or an e-mail address never links: whoever may choose theirs at the provider would choose an admin's. A person
who is new here gets an account of their own; an account that exists is linked by an admin (`PUT /users/NAME/sso`).
"""

from __future__ import annotations

import re
import ssl
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from control.auth.service import SignedIn, create_user, end_sessions, is_last_admin, new_login
from control.db import publish
from control.deps import Control
from control.errors import ConfigError, Problem
from control.kit.audit import Actor, note
from control.kit.oidc import Client, Flow, Identity, LoggedOut, Provider, SsoError
from control.kit.outbound import Outbound
from control.kit.permissions import Role
from control.models import Membership, RefreshSession, SpentToken, Team, User
from control.models.base import now
from control.security import sha256
from control.settings import OidcTable, Settings, reference

CALLBACK = "/api/v1/auth/oidc/callback"
FLOW_SECONDS = 600
"""What a person has for signing in at the provider."""
_FLOW = "oidc flow"
_BY_PROVIDER = "single sign-on"
"""Actor of what follows from the provider's word, and resource of failures in the audit log."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.\-\u4e00-\u9fff]+")


def provider(settings: Settings) -> Provider | None:
    """The identity provider of these settings; None when single sign-on is off.

    Raises:
        ConfigError: the client secret or `ca_file` cannot be used.
    """
    table = settings.oidc
    if not table.issuer:
        return None
    secret = reference(table.client_secret)
    by_group = bool(table.group_roles or table.group_teams)
    wanted = (table.username_claim, "email", *([table.groups_claim] if by_group else []))
    place = settings.console.public_url + CALLBACK
    client = Client(table.issuer, table.client_id, secret, table.scopes, place, wanted)
    try:
        return Provider(client, Outbound(table.allow_private, ca_file=table.ca_file))
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"[oidc] ca_file {table.ca_file} is no usable PEM bundle: {exc}") from exc


def sealed(control: Control, flow: Flow) -> str:
    """The flow as the browser keeps it meanwhile."""
    return control.vault.sign(_FLOW, FLOW_SECONDS, asdict(flow))


def opened(control: Control, cookie: str, state: str) -> Flow:
    """The flow that this browser began, if the provider's answer belongs to it; SsoError(sso_state) otherwise."""
    claims = control.vault.read(_FLOW, cookie)
    flow = Flow(**{name: claims[name] for name in Flow.__slots__}) if claims is not None else None
    if flow is None or not state or flow.state != state:
        text = "this answer belongs to no sign-in that this browser began in the last 10 minutes"
        raise SsoError("sso_state", text)
    return flow


async def sign_in(control: Control, identity: Identity, address: str) -> SignedIn:
    """Sign in whom the provider named, with the account that is theirs; make it when they are new.

    Raises:
        SsoError: they may not come in.
    """
    try:
        async with control.db.write() as session:
            return await _sign_in(session, control, identity, address)
    except IntegrityError:  # the same person came in by two windows at once: the account is there now
        async with control.db.write() as session:
            return await _sign_in(session, control, identity, address)


async def refused(control: Control, error: SsoError, address: str) -> None:
    """Note in the audit log that a sign-in failed, and why."""
    async with control.db.write() as session:
        note(session, Actor(_BY_PROVIDER, address), "login_failed", "sso", error.code, after={"why": error.detail})


async def _sign_in(session: AsyncSession, control: Control, identity: Identity, address: str) -> SignedIn:
    table = control.settings.oidc
    _check_domain(table, identity)
    groups = _groups(table, identity)
    role = next((role for group, role in table.group_roles.items() if group in groups), table.default_role)
    query = select(User).where(User.sso_issuer == identity.issuer, User.sso_subject == identity.subject)
    user = await session.scalar(query.with_for_update())
    if role is None and (user is None or table.group_roles):
        raise SsoError("sso_no_role", f"no group of the subject {identity.subject!r} gives a role")
    actor = Actor(_BY_PROVIDER, address)
    if user is None:
        assert role is not None
        user = await _create(session, table, identity, role, actor)
    elif not user.enabled:
        raise SsoError("sso_disabled", f"the account {user.username!r} is disabled")
    elif role is not None and table.group_roles:
        await _give_role(session, user, role, actor)
    await _follow_teams(session, table, user, groups, actor)
    user.last_login_at = now()
    note(session, Actor(user.username, address), "login", "user", user.username, after={"issuer": identity.issuer})
    ends_at = now() + timedelta(seconds=table.session_seconds)
    return await new_login(session, control, user, address, ends_at, identity.session)


async def log_out(session: AsyncSession, gone: LoggedOut, issuer: str, address: str) -> int:
    """End the logins that have ended at the provider; how many people's. Access tokens end, too: those of the person's
    other logins are refreshed without their noticing. A token that was told before does nothing: logins that have begun
    since are no business of whoever has kept it.
    """
    if not await _is_first(session, gone, issuer):
        return 0
    query = select(User).where(User.sso_issuer == issuer)
    if gone.subject:
        query = query.where(User.sso_subject == gone.subject)
    if gone.session:
        named = RefreshSession.sso_session == gone.session
        if gone.subject:  # a login whose session has no name may be the one
            named = or_(named, RefreshSession.sso_session == "")
        query = query.where(User.id.in_(select(RefreshSession.user_id).where(named)))
    users = (await session.scalars(query.with_for_update())).all()
    for user in users:
        if gone.session:
            await end_sessions(session, user, named)
        else:
            await end_sessions(session, user)
        note(session, Actor(_BY_PROVIDER, address), "logout", "user", user.username, after={"issuer": issuer})
    return len(users)


async def _is_first(session: AsyncSession, gone: LoggedOut, issuer: str) -> bool:
    await session.execute(delete(SpentToken).where(SpentToken.expires_at < now()))
    digest = sha256(f"{issuer}\n{gone.token}")
    if await session.get(SpentToken, digest) is not None:
        return False
    session.add(SpentToken(digest=digest, expires_at=gone.expires_at))
    try:
        await session.flush()
    except IntegrityError as exc:  # it is being told twice at this moment: the other one does it
        raise Problem(503, "busy", "this token is being taken right now: try again", retry_after=1) from exc
    return True


def _check_domain(table: OidcTable, identity: Identity) -> None:
    if not table.email_domains:
        return
    email = _text(identity, "email")
    verified = identity.claims.get("email_verified") in (True, "true")
    if not verified or email.rpartition("@")[2].lower() not in {domain.lower() for domain in table.email_domains}:
        text = f"the subject {identity.subject!r} has no verified e-mail address of the domains in [oidc] email_domains"
        raise SsoError("sso_domain", text)


async def _create(session: AsyncSession, table: OidcTable, identity: Identity, role: Role, actor: Actor) -> User:
    said = _text(identity, table.username_claim)
    username = _NOT_IN_NAMES.sub("-", said.partition("@")[0]).strip("-._")[:64]
    if not username:
        text = f"the claim {table.username_claim!r} of the subject {identity.subject!r} gives no name"
        raise SsoError("sso_no_name", text)
    try:
        user = await create_user(
            session, actor, username, role, None,
            display_name=_text(identity, "name")[:120], email=_text(identity, "email")[:254],
        )  # fmt: skip
    except Problem as exc:
        text = (
            f"the subject {identity.subject!r} would be called {username!r}, which is taken: "
            f"an admin links the account, PUT /api/v1/users/{username}/sso"
        )
        raise SsoError("sso_name_taken", text) from exc
    user.sso_issuer, user.sso_subject = identity.issuer, identity.subject
    return user


async def _give_role(session: AsyncSession, user: User, role: Role, actor: Actor) -> None:
    """The role that the groups say now. The last admin stays one: a system without would be locked for good."""
    if user.role == role or (user.role == "admin" and await is_last_admin(session, user.id)):
        return
    note(session, actor, "update", "user", user.username, {"role": user.role}, {"role": role})
    user.role = role
    user.row_version += 1
    await end_sessions(session, user)
    publish(session)  # the person's own keys follow


async def _follow_teams(session: AsyncSession, table: OidcTable, user: User, groups: set[str], actor: Actor) -> None:
    wanted = {team for group, team in table.group_teams.items() if group in groups}
    teams = await session.scalars(select(Team).where(Team.name.in_(set(table.group_teams.values()))))
    for team in teams.all():
        query = select(Membership).where(Membership.team_id == team.id, Membership.user_id == user.id)
        membership = await session.scalar(query)
        if membership is None and team.name in wanted:
            session.add(Membership(team_id=team.id, user_id=user.id))
            note(session, actor, "put_member", "team", team.name, after={"username": user.username})
        elif membership is not None and team.name not in wanted:
            await session.delete(membership)
            note(session, actor, "remove_member", "team", team.name, before={"username": user.username})


def _groups(table: OidcTable, identity: Identity) -> set[str]:
    said: Any = identity.claims.get(table.groups_claim)
    return {group for group in (said if isinstance(said, list) else [said]) if isinstance(group, str)}


def _text(identity: Identity, claim: str) -> str:
    """A claim that is text, without characters that no database keeps; else nothing."""
    said = identity.claims.get(claim)
    return said.replace("\0", "").strip() if isinstance(said, str) else ""
