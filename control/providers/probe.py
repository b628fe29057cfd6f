"""Asks an upstream for its models: does it answer, and does it know the credential?"""

from __future__ import annotations

import json
import re
import time
from typing import Any

from control.kit.outbound import Answer, Outbound, OutboundError
from control.models import Endpoint
from control.providers.schemas import Code, TestResult
from gateway.contract.providers import KINDS

MOST_MODELS = 1000
_NAME = re.compile(r"^[A-Za-z0-9_\-./:@+ ]{1,200}$")
_SAID: dict[int, tuple[Code, str]] = {
    401: ("auth", "the upstream refuses the credential"),
    403: ("auth", "the upstream refuses the credential, or this account may not list models"),
    404: ("not_found", "there is no /models below this base URL: look at its path"),
    429: ("rate_limited", "the upstream answers, but refuses this account for now"),
}


async def probe(outbound: Outbound, endpoint: Endpoint, secret: str | None) -> TestResult:
    """GET {base_url}/models. Nothing of the answer but its status and names of models is told."""
    if endpoint.provider == "dummy":
        return _result("", "the dummy answers by itself: there is nothing to reach", ok=True)
    if endpoint.spec.get("proxy"):
        return _result("has_proxy", "gateways reach this endpoint through a proxy; the test does not use proxies")
    kind = KINDS[endpoint.provider]
    headers = {"accept": "application/json", **kind.headers, **endpoint.spec.get("headers", {})}
    if secret is not None:
        headers[kind.key_header] = f"Bearer {secret}" if kind.key_header == "authorization" else secret
    started = time.monotonic()
    try:
        answer = await outbound.get(endpoint.spec["base_url"].rstrip("/") + "/models", headers)
    except OutboundError as exc:
        return _result(exc.code, exc.detail)
    return _judged(answer, (time.monotonic() - started) * 1000, secret)


def _judged(answer: Answer, latency_ms: float, secret: str | None) -> TestResult:
    status = answer.status
    if 300 <= status < 400:
        return _result("redirect", "the upstream redirects; redirects are not followed", status, latency_ms)
    if status != 200:
        code, detail = _SAID.get(status, ("unexpected_status", f"the upstream answers {status}"))
        return _result(code, detail, status, latency_ms)
    models = _models(answer.body, secret)
    if models is None:
        return _result("bad_reply", "the answer is not a list of models", status, latency_ms)
    return _result("", f"{len(models)} models", status, latency_ms, models, ok=True)


def _models(body: bytes, secret: str | None) -> list[str] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    document = document if isinstance(document, dict) else {}
    data = document.get("data", document.get("models"))  # OpenAI's and Anthropic's list, or Google's
    if not isinstance(data, list):
        return None
    told = [item.get("id", item.get("name")) for item in data if isinstance(item, dict)]
    names = {name.removeprefix("models/") for name in told if isinstance(name, str)}
    # an upstream that puts the credential into a name must not get it shown
    return sorted(n for n in names if _NAME.fullmatch(n) and (secret is None or secret not in n))[:MOST_MODELS]


def _result(
    code: Any,
    detail: str,
    status: int | None = None,
    latency_ms: float | None = None,
    models: list[str] | None = None,
    *,
    ok: bool = False,
) -> TestResult:
    latency = None if latency_ms is None else round(latency_ms, 1)
    return TestResult(ok=ok, code=code, detail=detail, status=status, latency_ms=latency, models=models or [])
