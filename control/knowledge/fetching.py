"""Web pages by URL, through the guard of `kit.outbound`: each redirect is checked as if somebody had named it."""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from yarl import URL

from control.errors import Problem
from control.kit.outbound import Answer, Outbound, OutboundError, parse

PAGE_BYTES = 20_971_520
"""Most of a page: it is in memory while it arrives."""
SECONDS = 30.0
"""Most for a page with all its redirects; each call has the guard's own bound, too."""
REDIRECTS = 5
TYPES = {
    "text/html": "html", "application/xhtml+xml": "html", "application/pdf": "pdf", "text/plain": "txt",
    "text/markdown": "md",
}  # fmt: skip
"""Content type -> end of the document's name, which says how it is read."""
_REDIRECTED = (301, 302, 303, 307, 308)
_NOT_IN_A_NAME = re.compile(r"[/\\\x00-\x20\x7f]+")
_HEADERS = {"accept": "text/html, application/pdf, text/plain;q=0.9, */*;q=0.1", "user-agent": "tunegate"}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A page."""

    content: bytes
    """Text is UTF-8, whatever it came in."""
    ending: str
    """One of `TYPES`."""

    async def pieces(self) -> AsyncIterator[bytes]:
        """The content, as files are taken in."""
        yield self.content


async def fetch(outbound: Outbound, url: str, most: int) -> Fetched:
    """A page of at most so many bytes, and of `PAGE_BYTES`.

    Raises:
        Problem: 422 `not_fetched`, which says why: an address that must not be reached, a time-out, a status other
            than 200, another type, too many bytes or redirects.
    """
    try:
        async with asyncio.timeout(SECONDS):
            answer = await _following(outbound, url, min(most, PAGE_BYTES))
    except OutboundError as exc:
        raise _refused(exc.detail) from exc
    except TimeoutError as exc:
        raise _refused(f"no whole page within {SECONDS:g} s") from exc
    if answer.status != 200:
        raise _refused(f"it is answered with the status {answer.status}")
    kind, _, parameters = answer.headers.get("content-type", "").partition(";")
    ending = TYPES.get(kind.strip().lower())
    if ending is None:
        raise _refused(f"it is of the type {kind.strip()[:80]!r}: only HTML, PDF and text are read")
    if not answer.body:
        raise _refused("it is empty")
    return Fetched(answer.body if ending == "pdf" else _utf8(answer.body, parameters), ending)


def name_of(url: str, ending: str) -> str:
    """Name of the document of a URL: its host, path and query, with the ending that says how it is read."""
    target = URL(url)
    path = _NOT_IN_A_NAME.sub(" ", f"{target.host or ''} {target.path} {target.query_string}").strip()
    path = path.removesuffix(f".{ending}")[: 254 - len(ending)]
    return f"{path}.{ending}"


async def _following(outbound: Outbound, url: str, most: int) -> Answer:
    target = parse(url)
    for _ in range(REDIRECTS + 1):
        answer = await outbound.get(str(target.with_fragment(None)), _HEADERS, limit=most)
        where = answer.headers.get("location")
        if answer.status not in _REDIRECTED or where is None:
            return answer
        try:
            target = parse(str(target.join(URL(where))))
        except ValueError as exc:
            raise OutboundError("bad_url", "it redirects to what is no URL") from exc
    raise OutboundError("redirects", f"it redirects more than {REDIRECTS} times")


def _utf8(body: bytes, parameters: str) -> bytes:
    """A text that says its encoding in the header alone would be read wrongly without it."""
    said = re.search(r"charset\s*=\s*\"?([A-Za-z0-9_.:\-]{1,40})", parameters, re.IGNORECASE)
    if said is None:
        return body
    try:
        return body.decode(codecs.lookup(said[1]).name).encode()
    except (LookupError, UnicodeError):
        return body  # what it says is not what it is: the parser finds out


def _refused(why: str) -> Problem:
    return Problem(422, "not_fetched", f"the page is not taken: {why}")
