"""LiteLLM's config.yaml: `model_list`, `router_settings` and what of the other sections has a meaning here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from control.imports.plan import (
    NewEndpoint,
    NewRoute,
    Plan,
    SourceError,
    free,
    number,
    route_name,
    slug,
    url_problem,
    whole,
)
from gateway.contract.providers import KINDS

MOST_BYTES = 5_000_000
_MOST_MERGED = 10_000
_PREFIXES = {
    "openai": "openai", "deepseek": "deepseek", "dashscope": "dashscope", "zhipu": "zhipu", "zai": "zhipu",
    "hosted_vllm": "vllm", "vllm": "vllm", "text-completion-openai": "openai", "custom_openai": "openai",
    "moonshot": "moonshot", "openrouter": "openrouter", "azure": "azure",
}  # fmt: skip
_OWN_ADDRESS = {"anthropic": "anthropic", "gemini": "gemini", "cohere": "cohere", "cohere_chat": "cohere"}
"""Prefixes whose APIs are not OpenAI's. An address of them has other paths here than there."""
_OTHER_APIS = frozenset({
    "azure_ai", "bedrock", "palm", "sagemaker", "vertex_ai", "watsonx", "replicate", "ollama", "ollama_chat",
    "huggingface",
})  # fmt: skip
"""Prefixes of which the address and a key do not say enough."""
_STRATEGIES = {"simple-shuffle": "weighted", "least-busy": "least_busy", "latency-based-routing": "least_latency"}
_PRICES = {
    "input": "input_cost_per_token", "output": "output_cost_per_token", "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost", "reasoning": "output_cost_per_reasoning_token",
}  # fmt: skip
_READ = frozenset({
    "model", "api_base", "base_url", "api_key", "rpm", "tpm", "weight", "order", "timeout", "stream_timeout",
    "custom_llm_provider", *_PRICES.values(),
})  # fmt: skip
_ROUTER = frozenset({"num_retries", "timeout", "fallbacks", "routing_strategy"})
_SETTINGS = frozenset({"num_retries", "request_timeout", "fallbacks"})
Environment = Callable[[str], str | None]


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Safe types only, and merge keys that do not multiply without end."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MOST_MERGED:
            raise yaml.YAMLError("too many merged keys")


def load(path: Path) -> dict[str, Any]:
    """The document of a file."""
    try:
        if not path.is_file():
            raise SourceError("the LiteLLM configuration is not a file that can be read")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise SourceError(f"the LiteLLM configuration cannot be read: {exc.strerror}") from None
    if len(content) > MOST_BYTES:
        raise SourceError(f"the LiteLLM configuration is larger than {MOST_BYTES // 1_000_000} MB")
    try:
        document = yaml.load(content, Loader=_Loader)
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError) as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise SourceError(f"the LiteLLM configuration is not YAML that can be read{where}") from None
    if not isinstance(document, dict) or not isinstance(document.get("model_list"), list):
        raise SourceError("the LiteLLM configuration has no `model_list`: it is not LiteLLM's config.yaml")
    return document


def plan(document: Mapping[str, Any], environment: Environment) -> Plan:
    """What the document asks for; `environment` answers `os.environ/NAME`."""
    return _Mapper(document, environment).plan()


def _table(value: object) -> dict[str, Any]:
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}


class _Mapper:
    def __init__(self, document: Mapping[str, Any], environment: Environment) -> None:
        self.document, self.environment, self.made = document, environment, Plan()
        self.router, self.settings = _table(document.get("router_settings")), _table(document.get("litellm_settings"))
        self.accounts: dict[tuple[str, str, str], NewEndpoint] = {}
        self.entries: dict[str, list[dict[str, Any]]] = {}
        self.names: dict[str, str] = {}
        """Model name -> route."""

    def plan(self) -> Plan:
        for place, entry in enumerate(self.document["model_list"], 1):
            self._entry(place, entry)
        strategy = str(self.router.get("routing_strategy", "simple-shuffle"))
        if strategy not in _STRATEGIES:
            self.made.say("not mapped", f"router_settings.routing_strategy {strategy}", "the routes are weighted")
        for name, entries in self.entries.items():
            self.made.routes.append(NewRoute(name, self._spec(name, entries, _STRATEGIES.get(strategy, "weighted"))))
        self._fallbacks()
        self._leftovers()
        return self.made

    def _entry(self, place: int, entry: object) -> None:
        entry = _table(entry)
        params, said = _table(entry.get("litellm_params")), entry.get("model_name")
        what = f"model_list entry {place} ({said})" if isinstance(said, str) else f"model_list entry {place}"
        if not isinstance(said, str) or not isinstance(params.get("model"), str):
            return self.made.say("not mapped", what, "it has no model_name, or no litellm_params.model")
        name = self.names.get(said) or free(route_name(said), self.entries)
        if not name.strip("*"):
            return self.made.say("not mapped", what, "a route's name begins with a letter or digit")
        account = self._account(what, params)
        if isinstance(account, str):
            return self.made.say("not mapped", what, account)
        endpoint, model = account
        if "*" in model:
            if model != said or name != said:
                return self.made.say("not mapped", what, "a wildcard that renames the models has no counterpart")
            model = ""
        if unknown := sorted(params.keys() - _READ):
            self.made.say("not mapped", f"{what}: litellm_params {', '.join(unknown)}", "no counterpart")
        self.names[said] = name
        self.entries.setdefault(name, []).append(
            {**_table(entry.get("model_info")), **params, "model": model, "endpoint": endpoint.name, "what": what}
        )
        if name != said:
            self.made.say("by hand", what, f"its route is called {name}: clients must ask for that name")
        return None

    def _account(self, what: str, params: dict[str, Any]) -> tuple[NewEndpoint, str] | str:
        prefix, slash, model = params["model"].partition("/")
        if isinstance(params.get("custom_llm_provider"), str):
            prefix, slash = params["custom_llm_provider"], "/"
            model = params["model"].removeprefix(prefix + "/")
        if not slash:
            prefix, model = "openai", params["model"]
        base = params.get("api_base") or params.get("base_url") or ""
        base = self._resolved(base) if isinstance(base, str) else None
        if base is None:
            return "its api_base is not a text, or names a variable that is not set here"
        if prefix in _OTHER_APIS or (prefix in _OWN_ADDRESS and base):
            return f"{prefix!r} needs settings of its own: add its endpoint by hand"
        kind = {**_PREFIXES, **_OWN_ADDRESS}.get(prefix)
        if kind is None and not base:
            return f"{prefix!r} is not known, and there is no api_base to reach it at"
        kind = kind or "openai"
        base = (base or ("" if kind == "azure" else KINDS[kind].base_url)).rstrip("/")
        if not base:
            return f"{prefix!r} needs an api_base"
        if problem := url_problem(base):
            return problem
        reference = params.get("api_key")
        return self._endpoint(what, prefix, (kind, base, reference if isinstance(reference, str) else "")), model

    def _endpoint(self, what: str, prefix: str, account: tuple[str, str, str]) -> NewEndpoint:
        kind, base, reference = account
        if account not in self.accounts:
            taken = {endpoint.name for endpoint in self.made.endpoints}
            endpoint = NewEndpoint(free(slug(prefix, "openai"), taken), kind, base)
            self.accounts[account] = endpoint
            self.made.endpoints.append(endpoint)
            secret = self._resolved(reference)
            if secret and secret.lower() not in ("none", "empty"):
                endpoint.secrets.append(secret)
            elif KINDS[kind].needs_key or reference.startswith("os.environ/"):
                why = "the variable of its api_key is not set here" if reference else "the file has no api_key for it"
                self.made.say("by hand", f"credential of endpoint {endpoint.name}", f"{why}: add it by hand ({what})")
        return self.accounts[account]

    def _resolved(self, text: str) -> str | None:
        if text.startswith("os.environ/"):
            return self.environment(text.removeprefix("os.environ/"))
        return text

    def _spec(self, name: str, entries: list[dict[str, Any]], strategy: str) -> dict[str, Any]:
        spec: dict[str, Any] = {"strategy": strategy, "target": []}
        for entry, weight in zip(entries, _weights(entries), strict=True):
            target = {
                "endpoint": entry["endpoint"], "model": entry["model"], "weight": weight,
                "priority": min(whole(entry.get("order", 0), 0, 10**9) or 0, 1000),
            }  # fmt: skip
            if price := _price(entry):
                target["price"] = price
            else:
                self.made.say("by hand", entry["what"], "the file has no price for it: it costs 0 until you give one")
            spec["target"].append(target)
        limits = {}
        for unit in ("rpm", "tpm"):
            held = [whole(entry[unit], 1, 10**9) for entry in entries if entry.get(unit) is not None]
            if held and len(held) == len(entries) and None not in held:
                limits[unit] = min(sum(filter(None, held)), 10**9)
            elif held:
                self.made.say("not mapped", f"{unit} of {name}", "a route's limit is that of all its targets together")
        if limits:
            spec["limits"] = limits
        retries = whole(self.router.get("num_retries", self.settings.get("num_retries")), 0, 1000)
        if retries is not None:
            spec["retry"] = {"max_attempts": min(retries + 1, 20)}
        common = self.router.get("timeout", self.settings.get("request_timeout"))
        if timeouts := _timeouts(entries, common):
            spec["timeouts"] = timeouts
        return spec

    def _fallbacks(self) -> None:
        routes = {route.name: route for route in self.made.routes}
        found = self.router.get("fallbacks") or self.settings.get("fallbacks") or []
        for item in found if isinstance(found, list) else [found]:
            for name, following in _table(item).items() or [("?", None)]:
                target = following[0] if isinstance(following, list) and len(following) == 1 else None
                here, there = self.names.get(name), self.names.get(str(target))
                if here is None or there is None or "fallback" in routes[here].spec:
                    why = "only one fallback of a model that was imported, to one that was, has a counterpart"
                    self.made.say("not mapped", f"fallbacks of {name}", why)
                else:
                    routes[here].spec["fallback"] = there

    def _leftovers(self) -> None:
        if "master_key" in _table(self.document.get("general_settings")):
            self.made.say("not mapped", "general_settings.master_key", "make keys for the people who used it")
        left = [
            ("router_settings", self.router.keys() - _ROUTER),
            ("litellm_settings", self.settings.keys() - _SETTINGS),
            ("general_settings", _table(self.document.get("general_settings")).keys() - {"master_key"}),
        ]
        known = {"model_list", "router_settings", "litellm_settings", "general_settings"}
        left += [("section", {str(key) for key in self.document} - known)]
        for section, names in left:
            for name in sorted(names):
                self.made.say("not mapped", f"{section} {name}", "no counterpart")


def _weights(entries: list[dict[str, Any]]) -> list[int]:
    """As LiteLLM's shuffle takes them: `weight`, else `rpm`, else `tpm` of all entries."""
    for unit in ("weight", "rpm", "tpm"):
        found = [number(entry.get(unit)) for entry in entries]
        if any(found):
            held = [Decimal(1) if weight is None else weight for weight in found]
            scale = 1 if all(weight == int(weight) for weight in held) else 1000
            return [min(int(weight * scale), 1_000_000) for weight in held]
    return [1] * len(entries)


def _price(entry: dict[str, Any]) -> dict[str, str]:
    """Per million tokens."""
    found = {name: number(entry.get(param)) for name, param in _PRICES.items()}
    return {
        name: f"{(per * 1_000_000).quantize(Decimal('1e-9')).normalize():f}"
        for name, per in found.items()
        if per is not None and per < 1000
    }


def _timeouts(entries: list[dict[str, Any]], common: object) -> dict[str, float]:
    totals = [number(entry.get("timeout", common)) for entry in entries]
    firsts = [number(entry.get("stream_timeout")) for entry in entries]
    total, first = max(filter(None, totals), default=None), max(filter(None, firsts), default=None)
    result: dict[str, float] = {}
    if total is not None:
        result["total"] = min(float(total), 86_400.0)
        result["first_byte"] = min(result["total"], 300.0)
    if first is not None:
        result["first_byte"] = min(float(first), result.get("total", 900.0))
    return result
