"""The SQLite database of one-api and new-api: channels become endpoints and routes, tokens become keys.

The versions differ in their columns and in what the numbers of channel types mean, so whatever is there is read.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from control.imports.plan import NewEndpoint, NewKey, NewRoute, Plan, SourceError, free, route_name, slug, url_problem
from gateway.contract.providers import KINDS

QUOTA_PER_DOLLAR = 500_000
_MOST_ROWS = 20_000
_LONGEST = 1_000_000
_TABLES = ("channels", "tokens", "users")
_TYPES = {
    1: "openai", 3: "azure", 8: "openai", 14: "anthropic", 16: "zhipu", 17: "dashscope", 20: "openrouter", 24: "gemini",
    25: "moonshot",
}  # fmt: skip
_ONE_API = {**_TYPES, 36: "deepseek"}
_NEW_API = {**_TYPES, 26: "zhipu", 43: "deepseek"}
_NEW_API_COLUMNS = frozenset({"auto_ban", "tag", "status_code_mapping", "channel_info"})
_PATHS = {
    "openai": "/v1", "deepseek": "/v1", "dashscope": "/compatible-mode/v1", "zhipu": "/api/paas/v4", "azure": "",
    "anthropic": "/v1", "openrouter": "/v1", "gemini": "/v1beta", "moonshot": "/v1",
}  # fmt: skip
"""What follows one-api's base URLs, which end with the host."""
_KEY = re.compile(r"[!-~]{24,128}")
Row = dict[str, Any]
Tables = dict[str, list[Row]]


def load(path: Path) -> Tables:
    """The rows of the tables, by name; the file is not changed."""
    try:
        if not path.is_file():
            raise SourceError("the one-api database is not a file that can be read")
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            return {table: _rows(connection, table) for table in _TABLES}
        finally:
            connection.close()
    except (sqlite3.Error, OSError, OverflowError) as exc:
        raise SourceError(
            f"the one-api database is not a SQLite file that can be read ({type(exc).__name__})"
        ) from None


def _rows(connection: sqlite3.Connection, table: str) -> list[Row]:
    query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    made = connection.execute(query, (table,)).fetchone()
    if made is None or not str(made[0]).lstrip().upper().startswith("CREATE TABLE"):
        if table == "users":
            return []
        raise SourceError(f"the SQLite file has no table `{table}`: it is not one-api's database")
    cursor = connection.execute(f"SELECT * FROM {table} LIMIT {_MOST_ROWS + 1}")
    names = [column[0].lower() for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    if len(rows) > _MOST_ROWS:
        raise SourceError(f"the table `{table}` has more than {_MOST_ROWS} rows")
    return sorted(rows, key=lambda row: _int(row.get("id")))


def plan(tables: Tables) -> Plan:
    """What the rows ask for."""
    made = Plan()
    targets: dict[str, list[Row]] = {}
    for channel in tables["channels"]:
        _channel(made, targets, channel)
    for name, held in targets.items():
        tiers = sorted({target["priority"] for target in held}, reverse=True)  # there, the highest is tried first
        spec = [target | {"priority": min(tiers.index(target["priority"]), 1000)} for target in held]
        made.routes.append(NewRoute(name, {"target": spec}))
    if made.routes:
        made.say("by hand", "prices", "ratios of models and groups are not read: routes cost 0 until you give prices")
    users = {_int(user.get("id")): user for user in tables["users"]}
    for token in tables["tokens"]:
        _token(made, users, token)
    if any(key.budget is not None for key in made.keys):
        made.say("by hand", "budgets", f"{QUOTA_PER_DOLLAR} of quota are 1 here, as 1 USD: look at your currency")
    if any(_int(user.get("quota")) for user in users.values()):
        made.say("not mapped", "quota of users", "keys have budgets of their own only; make teams for common ones")
    return made


def _int(value: object, otherwise: int = 0) -> int:
    try:
        return int(value) if isinstance(value, int | float | str) else otherwise
    except (ValueError, OverflowError):
        return otherwise


def _list(value: object, separators: str = r"[,\s]+") -> list[str]:
    found = re.split(separators, value) if isinstance(value, str) else []
    return list(dict.fromkeys(part.strip() for part in found if part.strip()))


def _channel(made: Plan, targets: dict[str, list[Row]], channel: Row) -> None:
    identity, said = _int(channel.get("id")), channel.get("name")
    what = f"channel {identity} ({said})"
    new_api, number = not _NEW_API_COLUMNS.isdisjoint(channel), _int(channel.get("type"), -1)
    kind = (_NEW_API if new_api else _ONE_API).get(number)
    if kind is None:
        return made.say("not mapped", what, f"channels of type {number} have no counterpart")
    base = str(channel.get("base_url") or "").strip().rstrip("/")
    if not base and number in (3, 8):
        return made.say("not mapped", what, "a channel of this type needs a base URL")
    if base and (problem := url_problem(base)):
        return made.say("not mapped", what, problem)
    if "{" in base or "/chat/completions" in base:
        return made.say("not mapped", what, "its base URL is that of one operation")
    ours = base if base.endswith(_PATHS[kind]) else base + _PATHS[kind]
    endpoint = NewEndpoint(
        free(slug(said, f"channel-{identity}"), {e.name for e in made.endpoints}), kind,
        ours if base else KINDS[kind].base_url, _list(channel.get("key"), r"[\r\n]+"), _int(channel.get("status")) == 1,
    )  # fmt: skip
    made.endpoints.append(endpoint)
    if not endpoint.secrets:
        made.say("by hand", f"credential of endpoint {endpoint.name}", f"{what} has no key: add it by hand")
    for column in ("group", "setting", "settings", "config", "system_prompt", "param_override", "header_override"):
        if channel.get(column) not in (None, "", "{}", "default"):
            made.say("not mapped", f"{what}: {column}", "no counterpart")
    if not endpoint.enabled:
        return made.say("not mapped", f"{what}: models", "it is disabled: so is its endpoint, and no route uses it")
    return _models(made, targets, what, endpoint.name, channel)


def _models(made: Plan, targets: dict[str, list[Row]], what: str, endpoint: str, channel: Row) -> None:
    try:
        mapping = json.loads(str(channel.get("model_mapping") or "{}"))
    except (ValueError, RecursionError):
        mapping = None
    if not isinstance(mapping, dict):
        return made.say("not mapped", f"{what}: models", "its model_mapping is not a JSON object")
    for model in _list(channel.get("models"), ","):
        name, upstream = route_name(model), mapping.get(model, model)
        if not name or "*" in name or not isinstance(upstream, str) or not 0 < len(upstream) <= 160:
            made.say("not mapped", f"{what}: model {model}", "its name has no counterpart")
            continue
        if name != model:
            made.say("by hand", f"{what}: model {model}", f"its route is called {name}: clients must ask for that name")
        target = {
            "endpoint": endpoint, "model": upstream, "weight": min(max(_int(channel.get("weight")), 1), 1_000_000),
            "priority": _int(channel.get("priority")),
        }  # fmt: skip
        if all(other["endpoint"] != endpoint or other["model"] != upstream for other in targets.get(name, [])):
            targets.setdefault(name, []).append(target)
    return None


def _token(made: Plan, users: dict[int, Row], token: Row) -> None:
    identity, said = _int(token.get("id")), token.get("name")
    what, secret = f"token {identity} ({said})", token.get("key")
    secret = secret.strip().removeprefix("sk-") if isinstance(secret, str) else ""
    if token.get("deleted_at") is not None:
        return made.say("not mapped", what, "it was deleted")
    if not _KEY.fullmatch(secret):
        return made.say("not mapped", what, "its key is too short, too long, or not ASCII")
    expires, user = (
        _int(token.get("expired_time"), -1),
        users.get(_int(token.get("user_id"), -1), {"status": 0} if users else {}),
    )
    try:
        moment = datetime.fromtimestamp(expires, UTC) if expires > 0 else None
        cidrs = _networks([*_list(token.get("subnet")), *_list(token.get("allow_ips"))])
    except (ValueError, OverflowError, OSError):
        return made.say("not mapped", what, "its networks or its expiry cannot be understood")
    limited = "model_limits_enabled" not in token or _int(token["model_limits_enabled"]) == 1
    allowed = _list(token.get("models") or token.get("model_limits"), ",") if limited else []
    models = tuple(filter(None, map(route_name, allowed))) if allowed else ("*",)
    if len(models) > 200 or not models:
        return made.say("not mapped", what, "its models have no counterpart, or are more than 200")
    key = NewKey(
        slug(said, f"token-{identity}"), f"sk-{secret}", models=models, cidrs=cidrs, expires_at=moment,
        enabled=_int(token.get("status")) == 1 and _int(user.get("status", 1)) == 1 and not user.get("deleted_at"),
        note=f"one-api token {identity}" + (f" of {slug(user['username'], '?')}" if "username" in user else ""),
    )  # fmt: skip
    if not _int(token.get("unlimited_quota")):
        left = Decimal(max(_int(token.get("remain_quota")), 0)) / QUOTA_PER_DOLLAR
        key.budget = min(left.quantize(Decimal("1e-6")), Decimal(1_000_000_000))
    made.keys.append(key)
    return None


def _networks(found: Sequence[str]) -> tuple[str, ...]:
    networks = tuple(str(ip_network(text, strict=False)) for text in found)
    if len(networks) > 100:
        raise ValueError("too many networks")
    return networks
