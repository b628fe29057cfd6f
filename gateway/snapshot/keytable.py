"""Keys and teams of a configuration -> the index by digest, in pieces: 100,000 keys at once would stall the loop."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from ipaddress import ip_network
from zoneinfo import ZoneInfo

import orjson

from gateway.contract import snapshot as wire
from gateway.errors import Place
from gateway.runtime import BudgetWindow, KeyRecord, Scope
from gateway.snapshot.secrets import secret

Problems = list[tuple[Place, str]]


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """No garbage collection meanwhile: with 100,000 keys its passes would stall the event loop."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class KeyTable:
    """The keys of one configuration. `problems` collects every mistake."""

    def __init__(self, teams: Sequence[wire.Team], *, rotating: bool = False) -> None:
        """With `rotating`, a key may be there again with another secret and expiry: the one that it is rotated from.

        A file may not do that: there, a name that comes twice is a slip.
        """
        self._rotating = rotating
        self.problems: Problems = []
        self.records: dict[bytes, KeyRecord] = {}
        """SHA-256 digest of the key -> record."""
        self._by_name: dict[str, KeyRecord] = {}
        self._seen = 0
        duplicates((t.name for t in teams), "team", self.problems)
        self._teams = {t.name: scope_of("team", t.name, t.limits, t.budgets) for t in teams}

    def add(self, keys: Sequence[wire.Key]) -> dict[bytes, KeyRecord]:
        """Compile some keys; the result may be given to `merge` of another table while their teams are the same."""
        built: dict[bytes, KeyRecord] = {}
        if not self._rotating:
            duplicates((spec.name for spec in keys), "key", self.problems, self._seen)
        for i, spec in enumerate(keys, self._seen):
            if spec.team is not None and spec.team not in self._teams:
                self.problems.append((("key", i, "team"), f"no [[team]] is named {spec.team!r}"))
                continue
            try:
                digest = _digest(spec)
            except ValueError as exc:
                self.problems.append((("key", i, "key"), str(exc)))
                continue
            if digest in built:
                self.problems.append((("key", i), f"the same secret as the key {built[digest].name!r}"))
            built[digest] = self._record(spec)
        self._seen += len(keys)
        self.merge(built)
        return built

    def merge(self, records: dict[bytes, KeyRecord]) -> None:
        """Take keys that were compiled before."""
        for digest in self.records.keys() & records.keys():
            text = f"{records[digest].name!r} has the same secret as the key {self.records[digest].name!r}"
            self.problems.append((("key",), text))
        for record in records.values() if self._rotating else ():
            first = self._by_name.setdefault(record.name, record)
            if first is not record and not _alike(first, record):
                self.problems.append((("key",), f"there is another key named {record.name!r}; names must differ"))
        self.records.update(records)

    def _record(self, spec: wire.Key) -> KeyRecord:
        own = scope_of("key", spec.name, spec.limits, spec.budgets)
        scopes = (own, self._teams[spec.team]) if spec.team is not None else (own,)
        return KeyRecord(
            name=spec.name,
            team=spec.team,
            enabled=spec.enabled,
            expires_at=spec.expires_at.timestamp() if spec.expires_at else None,
            models=frozenset(m for m in spec.models if not m.endswith("*")),
            model_prefixes=tuple(m[:-1] for m in spec.models if m.endswith("*")),
            networks=tuple(ip_network(c, strict=False) for c in spec.cidrs),
            scopes=tuple(s for s in scopes if s.limited),
            has_budget=any(s.budgets for s in scopes),
            unconditional=spec.enabled and spec.expires_at is None and not spec.cidrs,
            facts=b'"key":' + orjson.dumps(spec.name) + b',"team":' + orjson.dumps(spec.team),
            log_bodies=spec.log_bodies,
        )


def _alike(one: KeyRecord, other: KeyRecord) -> bool:
    """Whether two records differ in their secret and expiry only."""
    return all(getattr(one, name) == getattr(other, name) for name in _IDENTITY)


_IDENTITY = ("team", "enabled", "models", "model_prefixes", "networks", "scopes", "log_bodies")


def duplicates(names: Iterable[str], table: str, problems: Problems, first: int = 0) -> None:
    """Report every name that is there twice."""
    seen: set[str] = set()
    for i, name in enumerate(names, first):
        if name in seen:
            problems.append(((table, i, "name"), f"there is another [[{table}]] named {name!r}; names must differ"))
        seen.add(name)


def nano(amount: Decimal) -> int:
    """Money in nano-units."""
    return int((amount * 1_000_000_000).to_integral_value())


def scope_of(kind: str, name: str, limits: wire.Limits, budgets: tuple[wire.Budget, ...] = ()) -> Scope:
    """The limits of a key, team or route."""
    windows = tuple(BudgetWindow(nano(b.amount), b.window, ZoneInfo(b.timezone)) for b in budgets)
    return Scope(kind, name, limits.rpm, limits.tpm, limits.concurrency, windows)


def _digest(spec: wire.Key) -> bytes:
    if spec.sha256 is not None:
        return bytes.fromhex(spec.sha256)
    value = secret(spec.key or "")
    if len(value) < 16:
        raise ValueError("a key needs at least 16 characters; make one with `openssl rand -base64 32`")
    return hashlib.sha256(value.encode()).digest()
