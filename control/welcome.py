"""What `tunegate up` prints when everything is ready: the models, and lines to paste that use them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_QUESTION = '{"model": "%s", "messages": [{"role": "user", "content": "Who are you?"}]}'


def welcome(config: Mapping[str, Any], url: str, key_file: Path, new_key: str | None, waiting: list[str]) -> str:
    """The whole text. `new_key` is shown once, on the first run; `waiting` names engines not ready yet."""
    model = _model_to_try(config, waiting)
    lines = ["", f"Tunegate is ready at {url}/v1", "", *_models(config), ""]
    for engine in waiting:
        lines += [f"  The engine `{engine}` does not answer yet; its log is named above.", ""]
    if new_key is not None:
        lines += [f"  API key   {new_key}", f"            also in {key_file}; it is not shown again", ""]
    if key_file.exists():
        lines += ["  Try it:", "", *_curl(url, key_file, model), "", *_python(url, key_file, model), ""]
    return "\n".join([*lines, "  Ctrl-C stops everything.", ""])


def _models(config: Mapping[str, Any]) -> list[str]:
    providers = {endpoint["name"]: endpoint["provider"] for endpoint in config.get("endpoint", [])}
    rows = [("model", "answered by", "price per million tokens, in / out")]
    for route in config.get("route", []):
        targets = [
            f"{providers.get(target['endpoint'], '?')} ({target['endpoint']})" for target in route.get("target", [])
        ]
        price = route.get("price", {})
        rows.append((route["name"], ", ".join(targets), f"{price.get('input', 0)} / {price.get('output', 0)}"))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows]


def _model_to_try(config: Mapping[str, Any], waiting: list[str]) -> str:
    """An adapter when its engine answers, else the first route that needs no engine."""
    names = [route["name"] for route in config.get("route", []) if not route["name"].endswith("*")]
    preferred = ["dummy"] if waiting else ["alpha", "tiny"]
    return next((name for name in preferred if name in names), names[0] if names else "MODEL")


def _curl(url: str, key_file: Path, model: str) -> list[str]:
    return [
        f"  curl -s {url}/v1/chat/completions -H 'Content-Type: application/json' \\",
        f'    -H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})" \\',
        f"    -d '{_QUESTION % model}'",
    ]


def _python(url: str, key_file: Path, model: str) -> list[str]:
    code = [
        "from openai import OpenAI",
        f"answer = OpenAI().chat.completions.create(model='{model}', messages=[",
        "    {'role': 'user', 'content': 'Who are you?'}])",
        "print(answer.choices[0].message.content)",
    ]
    return [
        f"  OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=$(cat {shlex.quote(str(key_file))}) \\",
        f'  {shlex.quote(sys.executable)} -c "',
        *code[:-1],
        f'{code[-1]}"',
    ]
