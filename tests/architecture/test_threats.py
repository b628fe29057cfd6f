"""Every threat that docs/security.md names is met by tests that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.named import ROOT, missing

MAP = Path(__file__).with_name("threats.toml")
TABLE = re.compile(r"^\| threat \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", re.MULTILINE)


def test_each_threat_has_its_tests_and_no_test_a_threat_that_is_not_told() -> None:
    rows = "".join(TABLE.findall((ROOT / "docs/security.md").read_text(encoding="utf-8"))).splitlines()
    told = [row.split("|")[1].strip() for row in rows]
    assert len(told) > 50
    assert told == list(dict.fromkeys(told))
    assert told == list(tomllib.loads(MAP.read_text(encoding="utf-8")))


def test_the_tests_exist() -> None:
    for threat, tests in tomllib.loads(MAP.read_text(encoding="utf-8")).items():
        assert tests, threat
        assert missing(tests) == [], threat
