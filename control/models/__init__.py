"""All tables: importing this package fills `Base.metadata`."""

from control.models.base import Base
from control.models.chat import ChatSession
from control.models.gateways import BreakerSpan, GatewayRow
from control.models.identity import Membership, RefreshSession, ServiceToken, Team, User
from control.models.ledger import AuditRow, Counter, Quarantine, SpendRow, UsageRow
from control.models.requests import RequestBody
from control.models.rollups import ROLLUPS
from control.models.routing import ApiKey, Credential, Endpoint, Grant, KeyUse, PriceVersion, Route, RouteVersion

__all__ = [
    "ROLLUPS",
    "ApiKey",
    "AuditRow",
    "Base",
    "BreakerSpan",
    "ChatSession",
    "Counter",
    "Credential",
    "Endpoint",
    "GatewayRow",
    "Grant",
    "KeyUse",
    "Membership",
    "PriceVersion",
    "Quarantine",
    "RefreshSession",
    "RequestBody",
    "Route",
    "RouteVersion",
    "ServiceToken",
    "SpendRow",
    "Team",
    "UsageRow",
    "User",
]
