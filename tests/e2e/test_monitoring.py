"""What a real vLLM and a whole `tunegate up` tell a scrape: the recorded page that other tests use is still true."""

from __future__ import annotations

import re
import urllib.request

import pytest

from tests.e2e.conftest import START_SECONDS, Stack
from tests.monitoring.test_rules import VLLM_PAGE, expressions
from tests.processes import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(START_SECONDS + 60)]


def page(url: str) -> str:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:
        text: str = reply.read().decode()
    return text


def names(text: str) -> set[str]:
    return set(re.findall(r"(?m)^(vllm:[\w:]+)[{ ]", text))


def test_the_engine_has_every_metric_that_dashboards_and_rules_name(stack: Stack) -> None:
    with stack.client() as client:
        client.chat.completions.create(model="alpha", messages=[{"role": "user", "content": "Hello"}], max_tokens=4)
    real = names(page(stack.engine_url))
    wanted = {name for _, expression in expressions() for name in re.findall(r"vllm:\w+", expression)}
    assert len(wanted) >= 15
    assert wanted <= real
    assert names(VLLM_PAGE.read_text(encoding="utf-8")) == real, "record the page anew, as test_rules.py says of it"


def test_control_tells_of_the_engine_the_worker_and_the_devices(stack: Stack) -> None:
    ready = 'tunegate_engine_state{engine="tiny",state="ready",worker="local"} 1.0'
    eventually(lambda: ready in page(stack.console_url))
    told = page(stack.console_url)
    assert re.search(r'(?m)^tunegate_devices\{use="free",worker="local"\} [1-9]', told)
    assert "tunegate_database_up 1.0" in told
    assert 'tunegate_control_answers{call="snapshot",worker="0"} 1.0' in page(stack.url)
