"""Values of the chart: what the schema takes and refuses, which combinations are refused, and the table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.charts.rendering import CHART, SETS, needs_go, render
from tests.charts.values_table import README, page, schema

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


def laid(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """What was said over the defaults, as Helm does before it looks at the schema."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = laid(out[key], value) if both else value
    return out


def nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value  # type: ignore[no-any-return]


def mistakes(values: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft7Validator(schema())
    return [error.json_path for error in validator.iter_errors(laid(DEFAULTS, values))]


def test_the_schema_takes_the_five_sets() -> None:
    jsonschema.Draft7Validator.check_schema(schema())
    assert len(SETS) == 5
    for path in SETS:
        assert mistakes(yaml.safe_load(path.read_text())) == [], path.stem


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gateway.replicas", "2"), ("gateway.replicas", 0), ("gateway.replicas", 1.5), ("gateway.replica", 2),
        ("gateways", {}), ("gateway", None), ("gateway.settings", [1]), ("gateway.settings.limits", "memory"),
        ("gateway.env", {"A": "b"}), ("gateway.persistence.size", "much"), ("gateway.persistence.size", 10),
        ("gateway.autoscaling.cpuPercent", -1), ("gateway.resources.limit", {}), ("gateway.secret", ""),
        ("gateway.secret", "Not_A_Name"), ("hosts.gateway", "https://llm.example.com"), ("hosts.gateway", ""),
        ("image.pullPolicy", "Sometimes"), ("trustedProxies", ["everyone"]), ("trustedProxies", "10.0.0.0/8"),
        ("engines", {}), ("engines", [{"name": "a"}]), ("engines", [{"name": "A b", "model": "m", "resources": {}}]),
        ("milvus.uri", "milvus.example.com"), ("console.serviceType", "Any"), ("serviceMonitor.interval", "often"),
        ("networkPolicy.providers", ["0.0.0.0/0"]), ("control.nodeSelector", {"gpu": True}), ("redis.password", "x"),
    ],
)  # fmt: skip
def test_the_schema_refuses(path: str, value: Any) -> None:
    (found, *_) = mistakes(nested(path, value))
    assert found.startswith("$")


COMBINATIONS = {
    "gateway.replicas": {"gateway": {"replicas": 2}},
    "gateway.autoscaling": {"gateway": {"autoscaling": {"enabled": True}}},
    "control.replicas": {"control": {"replicas": 2}, "shared": {"enabled": True}},
    "control.replicas:": {"control": {"replicas": 2}, "postgresql": {"enabled": True}},
    "choose one database": {"database": {"external": True}, "postgresql": {"enabled": True}},
    "choose one Milvus": {"milvus": {"enabled": True, "uri": "http://milvus:19530"}},
    "trainer, ray, engines": {"trainer": {"enabled": True}},
    "ray.enabled needs trainer.enabled": {"ray": {"enabled": True}, "shared": {"enabled": True}},
}


@needs_go
def test_combinations_that_cannot_work_are_refused_with_the_reason(helm: Path, tmp_path: Path) -> None:
    for number, values in enumerate(COMBINATIONS.values()):
        assert mistakes(values) == [], "each value for itself is right"
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(values))
    made = render(helm, *(tmp_path / f"{number}.yaml" for number in range(len(COMBINATIONS))))
    for number, why in enumerate(COMBINATIONS):
        said = made[str(number)]
        assert isinstance(said, str), f"{why}: it was rendered"
        assert why in said


def test_the_table_of_values_is_what_the_schema_says_or_make_fix_was_forgotten() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == page(text)
