"""What `tunegate up` prints when everything is ready: addresses, first secrets, and lines to paste that use them."""

from __future__ import annotations

import http.client
import json
import shlex
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

from control.firstrun import Files

_QUESTION = '{"model": "%s", "messages": [{"role": "user", "content": "Who are you?"}]}'


def welcome(url: str, console: str | None, files: Files, waiting: Sequence[str], *, first: bool) -> str:
    """The whole text. On the first run it shows the secrets, once; `waiting` names engines not ready yet."""
    key = files.first_key.read_text(encoding="ascii").strip() if files.first_key.exists() else None
    names = models(url, key) if key is not None else []
    lines = ["", f"Tunegate is ready at {url}/v1", ""]
    if console is not None:
        lines += [f"  Console   {console}", ""]
    if first and files.first_password.exists():
        password = files.first_password.read_text(encoding="ascii").strip()
        lines += [
            f"  Login     admin / {password}",
            f"            also in {files.first_password}; change it at once",
            "",
        ]
    if first and key is not None:
        lines += [f"  API key   {key}", f"            also in {files.first_key}; it is not shown again", ""]
    if names:
        lines += [f"  Models    {', '.join(names)}", ""]
    for engine in waiting:
        lines += [f"  The engine `{engine}` does not answer yet; its log is named above.", ""]
    if names:
        preferred = ["dummy"] if waiting else ["alpha", "tiny"]
        model = next((name for name in preferred if name in names), names[0])
        key_file = shlex.quote(str(files.first_key))
        lines += ["  Try it:", "", *_curl(url, key_file, model), "", *_python(url, key_file, model), ""]
    return "\n".join([*lines, "  Ctrl-C stops everything.", ""])


def models(url: str, key: str) -> list[str]:
    """Names of the models that the key may use; none when it is no longer good."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
    try:
        connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {key}"})
        response = connection.getresponse()
        body = response.read()
        return [model["id"] for model in json.loads(body)["data"]] if response.status == 200 else []
    except (OSError, http.client.HTTPException):  # it went down this moment: the supervisor says so
        return []
    finally:
        connection.close()


def _curl(url: str, key_file: str, model: str) -> list[str]:
    return [
        f"  curl -s {url}/v1/chat/completions -H 'Content-Type: application/json' \\",
        f'    -H "Authorization: Bearer $(cat {key_file})" \\',
        f"    -d '{_QUESTION % model}'",
    ]


def _python(url: str, key_file: str, model: str) -> list[str]:
    code = [
        "from openai import OpenAI",
        f"answer = OpenAI().chat.completions.create(model='{model}', messages=[",
        "    {'role': 'user', 'content': 'Who are you?'}])",
        "print(answer.choices[0].message.content)",
    ]
    return [
        f"  OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=$(cat {key_file}) \\",
        f'  {shlex.quote(sys.executable)} -c "',
        *code[:-1],
        f'{code[-1]}"',
    ]
