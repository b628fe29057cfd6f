"""PostgreSQL, Redis, control and three gateways behind nginx by one command: `make replicas`. They run until Ctrl-C;
with `--check` they are driven by the OpenAI SDK, wrk and a browser, and what came out is printed.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
from openai import OpenAI
from playwright.sync_api import expect, sync_playwright

from tests.console.browsing import ARGUMENTS, STILL, Console
from tests.console.conftest import CHROMIUM
from tests.fakes.plane import PASSWORD
from tests.fakes.replicas import Replicas, replicas
from tests.processes import eventually

SECONDS = 10
CONNECTIONS = 32
CONSOLE = "console.example.com"
"""Its name in the site of charts/nginx."""
SCRIPT = """wrk.method = "POST"
wrk.body = {body}
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {secret}"
"""


def asked(whole: Replicas) -> int:
    """Questions that the OpenAI SDK asks, every other one as a stream; an exception if one fails."""
    http = httpx.Client(verify=whole.nginx.trust, trust_env=False)
    with OpenAI(base_url=f"{whole.nginx.url}/v1", api_key=whole.secret, max_retries=0, http_client=http) as client:
        for number in range(60):
            messages = [{"role": "user", "content": "Who are you?"}]
            if number % 2:
                list(client.chat.completions.create(model="gpt", messages=messages, stream=True))  # type: ignore[arg-type]
            else:
                client.chat.completions.create(model="gpt", messages=messages)  # type: ignore[arg-type]
    return 60


def driven(whole: Replicas, folder: Path) -> tuple[int, float, int]:
    """(requests, requests/s, those that were no 200 or no answer) of wrk over TLS."""
    body = json.dumps({"model": "gpt", "messages": [{"role": "user", "content": "Who are you?"}]})
    script = folder / "wrk.lua"
    script.write_text(SCRIPT.format(body=json.dumps(body), secret=whole.secret))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script)]
    said = subprocess.run(
        [*command, f"{whole.nginx.url}/v1/chat/completions"], check=True, capture_output=True, text=True
    ).stdout
    many = re.search(r"(\d+) requests in", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert many is not None, said
    assert rate is not None, said
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    failed = int(wrong[1]) if wrong else 0
    return int(many[1]), float(rate[1]), failed + sum(map(int, broken.groups() if broken else ()))


def seen(whole: Replicas) -> None:
    """The console through nginx: a person signs in and finds the route and the last requests."""
    with sync_playwright() as playwright:
        rules = f"--host-resolver-rules=MAP {CONSOLE} 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, rules])
        page = browser.new_page(ignore_https_errors=True, locale="en-US", reduced_motion=STILL)
        console = Console(page, f"https://{CONSOLE}:{urlsplit(whole.nginx.url).port}")
        console.open("/routes")
        console.sign_in("admin", PASSWORD)
        console.open("/routes")
        expect(page.get_by_text("gpt", exact=True).first).to_be_visible()
        console.open("/requests")
        expect(page.get_by_role("row")).not_to_have_count(1)
        browser.close()


def checked(whole: Replicas, folder: Path) -> int:
    """Drive it, and say what came out; 1 if a request failed or is not in the ledger."""
    before = _ledger(whole)
    many = asked(whole)
    print(f"OpenAI SDK: {many} questions, half of them as streams: all answered")
    failed = 0
    if shutil.which("wrk") is None:
        print("wrk is not installed (apt-get install wrk): left out")
    else:
        requests, rate, failed = driven(whole, folder)
        many += requests
        print(f"wrk over TLS: {requests:,} requests, {rate:,.0f}/s over {CONNECTIONS} connections, {failed} failed")
    shares = [int(one.metric("tunegate_requests_total")) for one in whole.gateways]
    print(f"answered by the gateways: {', '.join(map(str, shares))}")
    eventually(lambda: _ledger(whole) >= before + many, 60)
    print(f"ledger: {_ledger(whole) - before:,} rows more (wrk's last ones, which it did not wait for, among them)")
    seen(whole)
    print("browser: signed in behind nginx, saw the route and the requests")
    return int(failed > 0)


def _ledger(whole: Replicas) -> int:
    whole.control.sign_in()
    rows: int = sum(one["requests"] for one in whole.control.get("/usage", by="route")["lines"])
    return rows


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="drive it by the SDK, wrk and a browser, then stop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, replicas(Path(name)) as whole:
        if options.check:
            return checked(whole, Path(name))
        print(f"gateways  {whole.nginx.url}/v1  key {whole.secret}  model gpt")
        print(f"console   {whole.control.url}  admin / {PASSWORD}")
        print("Ctrl-C stops all.", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
