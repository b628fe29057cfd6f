"""Every error that the gateway itself can answer with, and how it looks on the wire.

The code tells whose fault it was, in four domains; the same closed vocabulary labels metrics and usage events:

    caller_*    the request           bad JSON, unknown model, too large
    policy_*    the company's rules   key, access, rate, tokens, concurrency, budget, guard
    provider_*  the upstream          auth, rate, timeout, unreachable, 5xx, bad reply, rejected
    tunegate_*  ourselves             spool full, no snapshot, stopping, overloaded, limits, retrieval, guard

The body is OpenAI's: {"error": {"message", "type", "code", "param"}}. A message says what is wrong, which one it is,
and what to do; it never holds a credential or a prompt.
"""

from __future__ import annotations

import orjson

# code -> (HTTP status, OpenAI error type, OpenAI error code or None)
VOCABULARY: dict[str, tuple[int, str, str | None]] = {
    "caller_bad_json": (400, "invalid_request_error", None),
    "caller_bad_request": (400, "invalid_request_error", None),
    "caller_unsupported": (400, "invalid_request_error", "unsupported_parameter"),
    "caller_unknown_model": (404, "invalid_request_error", "model_not_found"),
    "caller_not_found": (404, "invalid_request_error", "unknown_url"),
    "caller_bad_method": (405, "invalid_request_error", "method_not_allowed"),
    "caller_too_large": (413, "invalid_request_error", "request_too_large"),
    "caller_slow": (408, "invalid_request_error", "request_timeout"),
    "policy_key": (401, "invalid_request_error", "invalid_api_key"),
    "policy_access": (403, "invalid_request_error", "access_denied"),
    "policy_rate": (429, "requests", "rate_limit_exceeded"),
    "policy_tokens": (429, "tokens", "rate_limit_exceeded"),
    "policy_concurrency": (429, "requests", "rate_limit_exceeded"),
    "policy_budget": (429, "insufficient_quota", "insufficient_quota"),
    "policy_guard": (400, "invalid_request_error", "content_policy_violation"),
    "provider_auth": (502, "api_error", "upstream_auth"),
    "provider_rate": (429, "requests", "rate_limit_exceeded"),
    "provider_timeout": (504, "api_error", "upstream_timeout"),
    "provider_unreachable": (502, "api_error", "upstream_unreachable"),
    "provider_5xx": (502, "api_error", "upstream_error"),
    "provider_bad_reply": (502, "api_error", "upstream_bad_reply"),
    "provider_rejected": (400, "invalid_request_error", None),
    "tunegate_spool_full": (503, "server_error", "usage_spool_full"),
    "tunegate_no_snapshot": (503, "server_error", "not_ready"),
    "tunegate_stopping": (503, "server_error", "shutting_down"),
    "tunegate_overloaded": (503, "server_error", "overloaded"),
    "tunegate_limits": (503, "server_error", "limits_unavailable"),
    "tunegate_retrieval": (503, "server_error", "retrieval_failed"),
    "tunegate_guard": (503, "server_error", "guard_failed"),
    "tunegate_bug": (500, "server_error", "internal_error"),
}

Header = tuple[bytes, bytes]


class GatewayError(Exception):
    """An answer other than the model's. `status` defaults to the code's own; `body` replaces the rendered one."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        status: int | None = None,
        headers: tuple[Header, ...] = (),
        body: bytes | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status or VOCABULARY[code][0]
        self.message = message
        self.param = param
        self.headers = headers
        self.passed = body
        """The upstream's own body, in the client's dialect, where that is what tells the error."""
        self._body = body

    @property
    def body(self) -> bytes:
        """The JSON body to answer with."""
        if self._body is None:
            _, kind, openai_code = VOCABULARY[self.code]
            self._body = orjson.dumps(
                {
                    "error": {
                        "message": self.message,
                        "type": kind,
                        "code": openai_code or self.code,
                        "param": self.param,
                    }
                }
            )
        return self._body

    @property
    def event(self) -> bytes:
        """The same error as one server-sent event, for a stream that has already begun."""
        return b"data: " + self.body + b"\n\n"


class UpstreamFailure(GatewayError):
    """One attempt at one target failed before its first content.

    `retriable`: another try, here or elsewhere, may succeed. `blames_target`: counts for its circuit breaker.
    `retry_after`: seconds that the upstream asked for.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retriable: bool = True,
        blames_target: bool = True,
        retry_after: float | None = None,
        upstream_status: int = 0,
        status: int | None = None,
        headers: tuple[Header, ...] = (),
        body: bytes | None = None,
    ) -> None:
        super().__init__(code, message, status=status, headers=headers, body=body)
        self.retriable = retriable
        self.blames_target = blames_target
        self.retry_after = retry_after
        self.upstream_status = upstream_status


Place = tuple[str | int, ...]
"""Where in the configuration a mistake is, such as ("route", 0, "target", 1, "weight")."""


class ConfigError(Exception):
    """A configuration that cannot be served; `problems` are (place, complete sentence), one a mistake."""

    def __init__(self, problems: list[tuple[Place, str]]) -> None:
        super().__init__("; ".join(f"{describe(place)}: {text}" if place else text for place, text in problems))
        self.problems = problems


def describe(place: Place) -> str:
    """A place as people write it: route[0].target[1].weight."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")
