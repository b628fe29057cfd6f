"""Where a worker's gauges are read when they are scraped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gateway.telemetry.metrics import Gauge, Labels

if TYPE_CHECKING:
    from gateway.app import Way, Worker
    from gateway.server.listener import Listener
    from gateway.upstream.pool import Pool
    from gateway.upstream.renewals import Renewals

BREAKER_STATES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


def gauges(worker: Worker, way: Way, listening: Listener, renewals: Renewals) -> dict[str, Gauge]:
    """Metric name -> what reads it."""
    keeper, upstreams, shadows = worker.keeper, way.upstreams, way.shadows
    spool, shipper, holder, health = worker.spool, worker.shipper, worker.holder, worker.health
    now = time.monotonic

    def one(read: object) -> Gauge:
        return lambda: [((), float(read()))]  # type: ignore[operator]

    found: dict[str, Gauge] = {
        "tunegate_in_flight_requests": one(lambda: worker.telemetry.in_flight),
        "tunegate_client_connections": one(lambda: len(listening.front.connections)),
        "tunegate_target_in_flight": lambda: [((t,), h.in_flight) for t, h in health.items()],
        "tunegate_target_breaker": lambda: [((t,), BREAKER_STATES[h.state(now())]) for t, h in health.items()],
        "tunegate_target_breaker_opened": lambda: [((t,), h.opened) for t, h in health.items()],
        "tunegate_upstream_connections": lambda: [((p.endpoint.name,), p.open_connections) for p in upstreams.pools()],
        "tunegate_upstream_queue": lambda: [((p.endpoint.name,), p.queued) for p in upstreams.pools()],
        "tunegate_credential_failures": lambda: [((e,), float(count)) for e, count in renewals.failures.items()],
        "tunegate_spool_bytes": one(lambda: spool.bytes_used),
        "tunegate_spool_max_bytes": one(lambda: spool.max_bytes),
        "tunegate_spool_backlog_bytes": one(lambda: spool.backlog),
        "tunegate_spool_refused": one(lambda: spool.refused),
        "tunegate_spool_recovered": one(lambda: spool.recovered),
        "tunegate_usage_shipped": one(lambda: shipper.shipped),
        "tunegate_usage_delivery_failing": one(lambda: shipper.failures),
        "tunegate_shadows": lambda: [(labels, float(count)) for labels, count in shadows.outcomes.items()],
        "tunegate_request_log": lambda: [((what,), float(count)) for what, count in keeper.outcomes.items()],
        "tunegate_request_log_bytes": one(lambda: keeper.held),
        "tunegate_responses_not_kept": one(lambda: worker.kept.failures),
        "tunegate_objects_not_noted": one(lambda: worker.objects.failures),
        "tunegate_snapshot_age_seconds": lambda: [((), time.time() - holder.swapped_at)] if holder.held else [],
        "tunegate_snapshot_swaps": one(lambda: holder.swaps),
        "tunegate_snapshot_refused": one(lambda: holder.refusals),
        "tunegate_endpoint_unusable": lambda: (
            [((e.name,), 1.0) for e in holder.current.unusable()] if holder.held else []
        ),
        "tunegate_certificate_expires_seconds": lambda: _expiries(listening, upstreams.pools()),
        **way.answers.gauges(),
    }
    if worker.remote is not None:
        found |= worker.remote.gauges()
    if (shared := worker.shared) is not None:
        found |= {
            "tunegate_limits_redis_calls": lambda: [(labels, float(n)) for labels, n in shared.link.calls.items()],
            "tunegate_limits_redis_breaker": one(lambda: shared.link.state),
            "tunegate_limits_uncovered": lambda: [(labels, float(n)) for labels, n in shared.outcomes.items()],
            "tunegate_limits_leases": one(lambda: len(shared.active)),
        }
    return found


def _expiries(listening: Listener, pools: Iterable[Pool]) -> Iterator[tuple[Labels, float]]:
    """Use and endpoint of each certificate that is known, and when it expires."""
    if (own := listening.certificate) is not None:
        yield ("listener", ""), own.expires
    for pool in pools:
        if not pool.retired and pool.certificate_expires is not None:
            yield ("upstream", pool.endpoint.name), pool.certificate_expires
