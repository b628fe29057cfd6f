"""All tables: importing this package fills `Base.metadata`."""

from control.models.base import Base
from control.models.chat import ChatSession
from control.models.identity import Membership, RefreshSession, ServiceToken, Team, User
from control.models.ledger import AuditRow, Counter, Quarantine, SpendRow, UsageHour, UsageRow
from control.models.requests import RequestBody, ShadowHour
from control.models.routing import ApiKey, Credential, Endpoint, Grant, KeyUse, Route, RouteVersion

__all__ = [
    "ApiKey",
    "AuditRow",
    "Base",
    "ChatSession",
    "Counter",
    "Credential",
    "Endpoint",
    "Grant",
    "KeyUse",
    "Membership",
    "Quarantine",
    "RefreshSession",
    "RequestBody",
    "Route",
    "RouteVersion",
    "ServiceToken",
    "ShadowHour",
    "SpendRow",
    "Team",
    "UsageHour",
    "UsageRow",
    "User",
]
