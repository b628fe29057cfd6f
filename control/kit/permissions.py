"""Who may do what: a permission is a property of the route, and a role is a set of permissions. Nothing else decides.

`own:` permissions let a person act on what is theirs (their keys, their teams' keys, their usage); the service asks
`Person.may` for the wider permission before it shows or changes anything of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from control.kit.audit import Actor

Role = Literal["admin", "operator", "engineer", "member", "viewer"]

_OWN = frozenset(
    {"self", "keys:list", "keys:own", "usage:own", "routes:read", "teams:own", "knowledge:list", "shared:read"}
)
_BUILD = frozenset({"training:list", "training:own", "knowledge:own", "comparisons:list", "comparisons:own"})
_VIEW = _OWN | {
    "keys:read", "usage:read", "teams:read", "training:list", "training:read", "knowledge:read", "comparisons:list",
    "comparisons:read",
}  # fmt: skip
_OPERATE = _VIEW | {
    "keys:write", "teams:write", "routes:write", "endpoints:read", "endpoints:write", "grants:write", "audit:read",
    "users:read", "training:own", "training:write", "knowledge:own", "knowledge:write", "comparisons:own",
    "comparisons:write",
}  # fmt: skip

ROLES: dict[Role, frozenset[str]] = {
    "admin": _OPERATE | {"users:write", "endpoints:test", "tokens:write", "requests:bodies", "settings:read"},
    "operator": frozenset(_OPERATE),
    "engineer": _OWN | _BUILD | {"endpoints:read"},
    "member": _OWN,
    "viewer": _VIEW - {"keys:own"},
}
"""The whole table; docs/security.md shows it, and a test calls every route as every role."""


def known_role(text: str) -> Role | None:
    """The role of this name. None when there is none, such as one that only a newer Tunegate knows: it may nothing."""
    return text if text in ROLES else None


PUBLIC = "public"
"""Permission of the few operations that need no login."""
SERVICE = "service"
"""Permission of the internal API: a service token."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who makes this request."""

    id: str
    username: str
    role: Role | None
    address: str
    must_change_password: bool = False

    def may(self, permission: str) -> bool:
        """Whether the role has the permission."""
        return permission in self.permissions

    @property
    def permissions(self) -> frozenset[str]:
        """All that the role may."""
        return ROLES[self.role] if self.role is not None else frozenset()

    @property
    def actor(self) -> Actor:
        """For the audit log."""
        return Actor(self.username, self.address)
