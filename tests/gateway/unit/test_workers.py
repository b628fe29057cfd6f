"""One worker answers /metrics for all: the families of its siblings are merged, not repeated."""

from __future__ import annotations

import asyncio
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import TABLE, Metrics
from gateway.workers import Sibling

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="several workers share a port on Linux only")


def numbers(worker: str, requests: int) -> bytes:
    """What one worker tells about itself."""
    metrics = Metrics(worker)
    metrics.sources.update({name: list for name, spec in TABLE.items() if spec.kind == "gauge"})
    metrics.counters["tunegate_rejected"][("policy_key",)] += requests
    metrics.histogram("tunegate_overhead_seconds", ()).observe(0.001 * requests)
    registry = CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry)


async def merged(tmp_path, count: int, *present: int) -> bytes:
    """What worker 0 answers when of its siblings these are there."""
    siblings = [Sibling(tmp_path, index, count) for index in present]
    for index, sibling in zip(present, siblings, strict=True):
        await sibling.start(lambda index=index: numbers(str(index), index + 1))
    try:
        return await Sibling(tmp_path, 0, count).merge(numbers("0", 1))
    finally:
        for sibling in siblings:
            sibling.close()


def test_the_series_of_all_workers_stand_in_one_group_for_each_family(tmp_path):
    text = asyncio.run(merged(tmp_path, 3, 1, 2)).decode()
    heads = [line for line in text.splitlines() if line.startswith("# ")]
    assert len(heads) == len(set(heads)), "each HELP and TYPE comes once"

    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a family is in one place"
    rejected = next(family for family in families if family.name == "tunegate_rejected")
    assert {(s.labels["worker"], s.value) for s in rejected.samples if s.name.endswith("_total")} == {
        ("0", 1.0),
        ("1", 2.0),
        ("2", 3.0),
    }
    overhead = next(family for family in families if family.name == "tunegate_overhead_seconds")
    assert {s.labels["worker"] for s in overhead.samples} == {"0", "1", "2"}


def test_a_sibling_that_is_restarting_costs_its_own_numbers_only(tmp_path):
    text = asyncio.run(merged(tmp_path, 3, 2)).decode()
    rejected = next(f for f in text_string_to_metric_families(text) if f.name == "tunegate_rejected")
    assert {s.labels["worker"] for s in rejected.samples} == {"0", "2"}


def test_a_single_worker_tells_its_own_numbers_unchanged(tmp_path):
    assert asyncio.run(merged(tmp_path, 1)) == numbers("0", 1)


def test_the_private_socket_is_for_its_owner_only_and_goes_with_the_worker(tmp_path):
    async def life() -> tuple[int, bool]:
        sibling = Sibling(tmp_path, 1, 2)
        await sibling.start(lambda: b"")
        mode = (tmp_path / "w1.sock").stat().st_mode & 0o777
        sibling.close()
        return mode, (tmp_path / "w1.sock").exists()

    assert asyncio.run(life()) == (0o600, False)
