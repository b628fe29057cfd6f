"""`tunegate up` tells its gateway which pages may call it: those of its own console."""

from __future__ import annotations

from typing import Any

import pytest

from control.up import _environment

NAME = "TUNEGATE_GATEWAY_CORS_ORIGINS"
LOCAL = "http://127.0.0.1:8080,http://localhost:8080"


@pytest.mark.parametrize(
    ("config", "console", "origins"),
    [
        ({}, "127.0.0.1:8080", LOCAL),
        ({}, "localhost:8080", "http://localhost:8080,http://127.0.0.1:8080"),
        ({}, "0.0.0.0:8080", "http://0.0.0.0:8080," + LOCAL),
        ({}, "[::1]:8080", "http://[::1]:8080," + LOCAL),
        ({}, "10.0.0.5:8080", "http://10.0.0.5:8080"),
        (
            {"console": {"public_url": "https://Console.example.com/x"}},
            "10.0.0.5:80",
            "http://10.0.0.5,https://console.example.com",
        ),
        ({"gateway": {"cors_origins": []}}, "127.0.0.1:8080", None),
        ({}, None, None),
    ],
)
def test_the_gateway_is_told_the_consoles_origins(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], console: str | None, origins: str | None
) -> None:
    monkeypatch.delenv(NAME, raising=False)
    assert _environment(config, "127.0.0.1:8000", console).get(NAME) == origins


def test_the_environment_of_the_person_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "https://own.example")
    assert _environment({}, "127.0.0.1:8000", "127.0.0.1:8080")[NAME] == "https://own.example"
