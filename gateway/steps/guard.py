"""The guard of a route: rules over the client's texts, then who else is asked about them; the same of answers that are
judged as a whole.

It runs before passages are looked for, so that a blocked request asks nobody anything, and over the client's own texts
alone (docs/adr/0020-the-guard-masks-what-clients-say.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from gateway.context import Context
from gateway.contract.guard import Checked, Moderation, Webhook
from gateway.errors import GatewayError
from gateway.guarded import Guarded, check_readable, mapped, texts_of
from gateway.protocols.canonical import Reply as Answer
from gateway.streaming import guarding
from gateway.streaming.reply import Reply
from gateway.streaming.translated import TranslatedBody, TranslatedEvents

log = logging.getLogger("gateway.guard")
AT_ONCE = 16_384
"""Bytes of a request that are looked through on the event loop; a longer one is in a thread."""


class CheckFailed(Exception):
    """Who was asked about texts did not answer as it should. The message holds nothing of theirs."""


class Moderator(Protocol):
    """Asks a route with a moderations API."""

    async def harmful(self, ctx: Context, spec: Moderation, texts: list[str]) -> bool:
        """Whether one of the texts is. Raises CheckFailed."""
        ...


class Hook(Protocol):
    """Asks a webhook."""

    async def judge(self, ctx: Context, spec: Webhook, key: bytes, stage: str, texts: list[str]) -> list[str] | None:
        """The texts, or others in their place; None: they must not pass. Raises CheckFailed."""
        ...


class Guardian:
    """See `gateway.steps.base.Step`."""

    def __init__(self, moderator: Moderator, hook: Hook) -> None:
        self._moderator = moderator
        self._hook = hook
        self._failing: set[tuple[str, str]] = set()
        """(route, who) that did not answer last time: the log hears of each change once."""

    def wanted(self, ctx: Context) -> bool:
        """All that is JSON: what a form or a file holds passes by."""
        return ctx.route.guard is not None and ctx.operation.form is None and not ctx.operation.stored

    async def read(self, ctx: Context, body: bytes) -> None:
        """See that a wanted request can be looked through. GatewayError: it cannot."""
        assert ctx.route.guard is not None
        if ctx.route.guard.reads_prompts:
            if len(body) > AT_ONCE:
                await asyncio.to_thread(check_readable, ctx.call.document, body)
            else:
                check_readable(ctx.call.document, body)

    async def apply(self, ctx: Context, document: dict[str, Any]) -> dict[str, Any]:
        """The request with its masks; `ctx.guarded` tells what was found.

        Raises GatewayError: policy_guard where it must not pass, tunegate_guard where nobody can say so.
        """
        assert ctx.route.guard is not None
        guarded = ctx.guarded = Guarded(ctx.route.guard)
        if ctx.call.prompt_estimate * 4 > AT_ONCE:
            document = await asyncio.to_thread(guarded.screen, document)
        else:
            document = guarded.screen(document)
        if guarded.guard.judges("prompt"):
            texts = texts_of(document)
            judged = iter(await self._judged(ctx, guarded, "prompt", texts))
            document = mapped(document, lambda text: _same(text, next(judged)))
            guarded.after = document
        return document

    async def answered(self, ctx: Context, reply: Reply) -> None:
        """Have an answer judged that was held for it, and let it go. Raises GatewayError as `apply`."""
        guarded, relay = ctx.guarded, reply.relay
        if guarded is None or not isinstance(relay, TranslatedBody | TranslatedEvents) or relay.answer is None:
            return
        reply.succeeded()
        ctx.first_content = ctx.first_content or reply.content_at  # from here on the answer is charged
        answer: Answer = relay.answer
        guarding.with_texts(answer, await self._judged(ctx, guarded, "answer", guarding.texts_of(answer)))
        guarding.restore(guarded, answer)
        relay.judged(answer)

    async def _judged(self, ctx: Context, guarded: Guarded, stage: Checked, texts: list[str]) -> list[str]:
        """The texts after everybody who is to be asked about them."""
        spec, known = guarded.guard.spec, [text for text in texts if text]
        if not known:
            return texts
        if spec.moderation is not None and spec.moderation.check in (stage, "both"):
            moderation = spec.moderation
            harmful = await self._asked(
                ctx, guarded, moderation, lambda: self._moderator.harmful(ctx, moderation, known)
            )
            if harmful:
                raise guarded.block("moderation", stage)
        if spec.webhook is not None and spec.webhook.check in (stage, "both"):
            webhook = spec.webhook
            told = await self._asked(
                ctx, guarded, webhook, lambda: self._hook.judge(ctx, webhook, guarded.guard.secret, stage, texts)
            )
            if told is None:
                raise guarded.block("webhook", stage)
            return told if told else texts
        return texts

    async def _asked(
        self, ctx: Context, guarded: Guarded, spec: Moderation | Webhook, ask: Callable[[], Awaitable[Any]]
    ) -> Any:
        """An answer, or False where there is none and the route goes on without."""
        name = "moderation" if isinstance(spec, Moderation) else "webhook"
        place = (ctx.route.name, name)
        began = asyncio.get_running_loop().time()
        try:
            told = await ask()
        except CheckFailed as exc:
            if place not in self._failing:
                self._failing.add(place)
                data = {"route": ctx.route.name, "check": name, "error": str(exc)}
                log.error("guard.check_failing", extra={"data": data})
            guarded.unchecked.append(name)
            if spec.on_failure == "open":
                return False
            text = f"The {name} that must allow what this model is asked and answers could not be asked. Try again."
            raise GatewayError("tunegate_guard", text) from exc
        finally:
            if ctx.first_content is None:
                ctx.upstream_seconds += asyncio.get_running_loop().time() - began
        if place in self._failing:
            self._failing.discard(place)
            log.warning("guard.check_works_again", extra={"data": {"route": ctx.route.name, "check": name}})
        return told


def _same(old: str, new: str) -> str:
    """The old object where they are equal: what did not change passes as it came."""
    return old if new == old else new
