"""The source of a gateway with control: a long poll for the configuration, and the pages of keys that it lacks.

A change costs the head and the pages that changed. Everything is checked before it replaces what runs; on any error
the last good configuration stays. Work is done in pieces, because this loop also serves requests.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import time
from dataclasses import dataclass

import orjson
from pydantic import ValidationError

from gateway.contract import snapshot as wire
from gateway.contract.internal import KeyPage, SnapshotHead
from gateway.contract.version import SCHEMA_VERSION
from gateway.errors import ConfigError, Place
from gateway.internal import Control, ControlError, Line
from gateway.runtime import KeyRecord
from gateway.snapshot.cache import Cache
from gateway.snapshot.compile import assemble, ca_trouble
from gateway.snapshot.holder import Holder
from gateway.snapshot.keytable import KeyTable, collector_at_rest
from gateway.snapshot.secrets import sealed_credential

log = logging.getLogger("gateway.snapshot")

WAIT = 25
"""Seconds that control may hold our question."""
HEAD_BYTES = 33_554_432
PAGE_BYTES = 8_388_608
MAX_PAGES = 2_000
LEAST_PAUSE = 0.5
"""Seconds between two questions, if control answers "unchanged" at once instead of waiting."""
MANY_PAGES = 5
"""After decoding more of them, what was built is taken out of the collector's sight."""


class PageGone(Exception):
    """A page has changed since its head was made: take the head again."""


@dataclass(slots=True, frozen=True)
class Page:
    """A compiled page of keys."""

    records: dict[bytes, KeyRecord]
    teams: dict[str, wire.Team]
    """Those of its keys, as they were: their limits are in the records."""


class Follower:
    """Keeps a Holder level with control."""

    def __init__(self, control: Control, cache: Cache, holder: Holder, token: str) -> None:
        self._control = control
        self._cache = cache
        self._holder = holder
        self._credential = sealed_credential(token)
        self._etag = ""
        """Of the configuration that was looked at last, whether it was taken or refused."""
        self._refused = ""
        """Its ETag, if it was refused."""
        self._afresh = True
        """Ask for the configuration itself and not for a change: at start, and to know that control is back."""
        self._pages: dict[str, Page] = {}
        self.line = Line("snapshot")

    async def start(self, patience: float) -> None:
        """Take what control has within `patience` seconds, else what lies on disk, else nothing yet."""
        try:
            async with asyncio.timeout(patience):
                await self._follow(0)
            self.line.worked()
        except TimeoutError:
            self.line.failed(ControlError("timeout", f"control did not answer within {patience:g} s at start"))
        except ControlError as exc:
            self.line.failed(exc)
        if not self._holder.held:
            await self._from_cache()

    async def run(self) -> None:
        """Follow control for ever."""
        while True:
            began = time.monotonic()
            try:
                changed = await self._follow(WAIT)
            except ControlError as exc:
                self._afresh = True
                self.line.failed(exc)
                await asyncio.sleep(self.line.pause)
                continue
            self.line.worked()
            if not changed and time.monotonic() - began < LEAST_PAUSE:
                await asyncio.sleep(LEAST_PAUSE)

    async def _follow(self, wait: int) -> bool:
        """Ask once and take over what came; False if nothing has changed. ControlError if that failed."""
        for _ in range(3):
            patience = 0 if self._afresh else wait
            headers = {} if self._afresh else {"if-none-match": self._etag}
            answer = await self._control.call(
                "GET",
                f"/snapshot?wait={patience}",
                most=HEAD_BYTES,
                silent=patience + 5.0,
                total=patience + 15.0,
                headers=headers,
            )
            if answer.status == 304 and self._afresh:
                raise ControlError("bad_reply", "control says that nothing has changed, but was not told since when")
            if answer.status == 304 or answer.etag == self._etag != "":
                self._afresh = False
                if self._refused or self._mended():  # what was missing here may be there now
                    self._etag, self._afresh = "", True
                return False
            if not answer.etag:
                raise ControlError("bad_reply", "the configuration from control has no ETag")
            try:
                await self._take(answer.body)
            except PageGone:
                self._afresh = True
                continue
            except ConfigError as exc:
                self._refuse(exc, answer.etag)
            else:
                self._refused = ""
            self._etag, self._afresh = answer.etag, False
            return True
        raise ControlError("bad_reply", "control does not have the pages of keys that its configuration names")

    async def _take(self, body: bytes) -> None:
        head = _decode_head(body)
        fresh = {
            digest: await self._fetch(digest) for digest in dict.fromkeys(head.key_pages) if not self._has(digest, head)
        }
        await self._swap(head, fresh, "control")
        try:  # after the swap: a slow disk holds up nobody
            await asyncio.to_thread(self._store, body, head.key_pages, fresh)
        except OSError as exc:
            log.error("snapshot.not_cached", extra={"data": {"error": exc.strerror}})

    def _store(self, body: bytes, pages: tuple[str, ...], fresh: dict[str, bytes]) -> None:
        for digest, page in fresh.items():
            self._cache.keep_page(digest, page)
        self._cache.keep_head(body, pages)

    def _has(self, digest: str, head: SnapshotHead) -> bool:
        page = self._pages.get(digest)
        if page is None or not page.teams:
            return page is not None
        teams = {team.name: team for team in head.teams if team.name in page.teams}
        return teams == page.teams

    async def _fetch(self, digest: str) -> bytes:
        if digest in self._pages:  # known, but its teams have changed
            kept = await asyncio.to_thread(self._cache.page, digest)
            if kept is not None:
                return kept
        try:
            answer = await self._control.call(
                "GET", f"/snapshot/keys/{digest}", most=PAGE_BYTES, silent=5.0, total=20.0
            )
        except ControlError as exc:
            if exc.kind == "http_404":
                raise PageGone from exc
            raise
        if answer.status != 200 or hashlib.sha256(answer.body).hexdigest() != digest:
            raise ControlError("bad_reply", f"the page of keys {digest[:12]}… is not what its name says")
        return answer.body

    async def _swap(self, head: SnapshotHead, fresh: dict[str, bytes], source: str) -> None:
        """Decode, compile and swap; ConfigError if it is refused. Gives the loop a turn after each piece of work."""
        with collector_at_rest():
            table = KeyTable(head.teams, rotating=True)
            teams = {team.name: team for team in head.teams}
            pages: dict[str, Page] = {}
            for digest in head.key_pages:
                if digest in fresh:
                    keys = _decode_page(fresh[digest])
                    await asyncio.sleep(0)
                    used = {key.team for key in keys}
                    pages[digest] = Page(table.add(keys), {n: team for n, team in teams.items() if n in used})
                    del keys
                else:
                    pages[digest] = self._pages[digest]
                    table.merge(pages[digest].records)
                await asyncio.sleep(0)
            runtime = assemble(_whole(head), table, self._credential, shared=True, session_key=head.session_key)
            for digest in fresh:
                for prepare in self._holder.before_swap:
                    prepare(pages[digest].records.values())
                await asyncio.sleep(0)
            if len(fresh) > MANY_PAGES:
                gc.freeze()  # or the next collection would walk through all of it at once
        self._pages = pages
        self._holder.swap(runtime)
        data = {"version": runtime.version, "keys": len(runtime.keys), "pages": len(fresh), "source": source}
        log.info("snapshot.swapped", extra={"data": data})
        for endpoint in runtime.unusable():
            log.error(
                "snapshot.endpoint_unusable", extra={"data": {"endpoint": endpoint.name, "problem": endpoint.unusable}}
            )

    def _mended(self) -> bool:
        """Whether an endpoint that was unusable on this machine would not be so now, or for another reason."""
        if not self._holder.held:
            return False
        return any(ca_trouble(one.spec) != one.unusable for one in self._holder.current.unusable())

    def _refuse(self, exc: ConfigError, etag: str) -> None:
        self._holder.refusals += 1
        if etag != self._refused:
            kept = self._holder.current.version if self._holder.held else None
            log.error("snapshot.refused", extra={"data": {"problems": str(exc)[:2_000], "kept": kept}})
        self._refused = etag

    async def _from_cache(self) -> None:
        body = await asyncio.to_thread(self._cache.head)
        if body is None:
            log.warning("snapshot.none_yet")
            return
        try:
            head = _decode_head(body)
            fresh: dict[str, bytes] = {}
            for digest in head.key_pages:
                page = await asyncio.to_thread(self._cache.page, digest)
                if page is None:
                    raise ControlError("bad_reply", f"the page of keys {digest[:12]}… is missing or damaged")
                fresh[digest] = page
            await self._swap(head, fresh, "cache")
        except (ConfigError, ControlError) as exc:
            log.error("snapshot.cache_refused", extra={"data": {"error": str(exc)[:2_000]}})


def _decode_head(body: bytes) -> SnapshotHead:
    """ControlError if it is not JSON (another try may help), ConfigError if it says what this gateway cannot serve."""
    try:
        document = orjson.loads(body)
    except ValueError as exc:
        raise ControlError("bad_reply", "the configuration from control is not JSON") from exc
    version = document.get("schema_version", SCHEMA_VERSION) if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        text = f"control speaks version {str(version)[:20]} of the contract, this gateway {SCHEMA_VERSION}: upgrade it"
        raise ConfigError([(("schema_version",), text)])
    try:
        head = SnapshotHead.model_validate_json(body)
    except ValidationError as exc:
        raise ConfigError(_problems(exc)) from exc
    if len(head.key_pages) > MAX_PAGES:
        raise ConfigError([(("key_pages",), f"there are {len(head.key_pages)} pages of keys; {MAX_PAGES} is the most")])
    return head


def _decode_page(body: bytes) -> tuple[wire.Key, ...]:
    try:
        return KeyPage.model_validate_json(body).keys
    except ValidationError as exc:
        raise ConfigError(_problems(exc)) from exc


def _whole(head: SnapshotHead) -> wire.Snapshot:
    """The head as a snapshot, whose rules for the version's characters are stricter: events are written with it."""
    try:
        return wire.Snapshot(version=head.version, endpoint=head.endpoints, route=head.routes, team=head.teams)
    except ValidationError as exc:
        raise ConfigError(_problems(exc)) from exc


def _problems(exc: ValidationError) -> list[tuple[Place, str]]:
    errors = exc.errors(include_url=False, include_input=False, include_context=False)
    return [(tuple(error["loc"]), error["msg"]) for error in errors[:20]]
