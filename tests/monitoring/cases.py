"""For each alert: series with which it fires, and series like them with which it does not, in promtool's notation.

`value x minutes`: `1+2x10` rises by 2 each minute. A case is looked at after `minutes`.
"""

from __future__ import annotations

from typing import NamedTuple

Series = dict[str, str]


class Case(NamedTuple):
    """What Prometheus has seen."""

    fires: Series
    quiet: Series
    minutes: int = 20


HOURS = 4 * 60
ERRORS = 'tunegate_errors_total{error="provider_5xx", route="m"}'
OWN = 'tunegate_errors_total{error="provider_rejected", route="m"}'
REQUESTS = 'tunegate_requests_total{route="m", end="success"}'
FIRST = "gen_ai_server_time_to_first_token_seconds"
FAST, ALL = f'{FIRST}_bucket{{le="5.12"}}', f"{FIRST}_count"
ANSWERS = 'tunegate_control_answers{call="snapshot", instance="g"}'
EXPIRES = "tunegate_certificate_expires_seconds"
"""Of promtool, the time begins at 0."""
ENGINE = 'tunegate_engine_state{worker="w", engine="tiny", state="%s"}'


def level(name: str, high: str, low: str, minutes: int = 20) -> Case:
    """A gauge that is `high`, and one that is `low`."""
    return Case({name: f"{high}x{minutes}"}, {name: f"{low}x{minutes}"}, minutes)


def rise(name: str, minutes: int = 20, by: str = "1") -> Case:
    """A counter that rises once, and one that stays."""
    steps = f"0x{minutes - 5} {by}x5"
    return Case({name: steps}, {name: f"3x{minutes}"}, minutes)


CASES: dict[str, Case] = {
    "TunegateAvailabilityBurnsFast": Case(
        {ERRORS: "0+2x90", REQUESTS: "0+100x90"}, {ERRORS: "0+1x90", OWN: "0+50x90", REQUESTS: "0+200x90"}, 90
    ),
    "TunegateAvailabilityBurnsSlow": Case(
        {ERRORS: f"0+4x{HOURS}", REQUESTS: f"0+1000x{HOURS}"},
        {ERRORS: f"0+0.5x{HOURS}", REQUESTS: f"0+1000x{HOURS}"}, HOURS,
    ),
    "TunegateFirstContentBurnsFast": Case({FAST: "0+20x90", ALL: "0+100x90"}, {FAST: "0+80x90", ALL: "0+100x90"}, 90),
    "TunegateFirstContentBurnsSlow": Case(
        {FAST: f"0+80x{HOURS}", ALL: f"0+100x{HOURS}"}, {FAST: f"0+96x{HOURS}", ALL: f"0+100x{HOURS}"}, HOURS
    ),
    "TunegateGatewayDown": level('up{job="tunegate-gateway", instance="g"}', "0", "1"),
    "TunegateTargetFailing": Case(
        {'tunegate_attempts_total{target="t", error="provider_5xx"}': "0+3x20",
         'tunegate_attempts_total{target="t", error=""}': "0+7x20"},
        {'tunegate_attempts_total{target="t", error="provider_5xx"}': "0+1x20",
         'tunegate_attempts_total{target="t", error=""}': "0+9x20"},
    ),
    "TunegateBreakerOpen": level('tunegate_target_breaker{target="t"}', "2", "1"),
    "TunegateCredentialFailing": Case(
        {'tunegate_credential_failures_total{endpoint="e"}': "_x18 1x2"},
        {'tunegate_credential_failures_total{endpoint="e"}': "4x40"}, 20,
    ),
    "TunegateEndpointUnusable": level('tunegate_endpoint_unusable{endpoint="e"}', "1", "0"),
    "TunegateCertificateExpiresSoon": level(f'{EXPIRES}{{use="upstream", endpoint="e"}}', "1000000", "1300000"),
    "TunegateCertificateExpires": level(f'{EXPIRES}{{use="listener", endpoint=""}}', "200000", "300000"),
    "TunegateSpoolFilling": Case(
        {'tunegate_spool_bytes{instance="g", worker="0"}': "60x20",
         'tunegate_spool_max_bytes{instance="g", worker="0"}': "100x20",
         'tunegate_spool_backlog_bytes{instance="g", worker="0"}': "50x20"},
        {'tunegate_spool_bytes{instance="g", worker="0"}': "60x20",
         'tunegate_spool_max_bytes{instance="g", worker="0"}': "100x20",
         'tunegate_spool_backlog_bytes{instance="g", worker="0"}': "0x20"},
    ),
    "TunegateSpoolFull": Case({"tunegate_spool_refused_total": "0x16 1x4"}, {"tunegate_spool_refused_total": "7x20"}),
    "TunegateRedisLost": level("tunegate_limits_redis_breaker", "2", "0"),
    "TunegateUsageNotDelivered": level("tunegate_usage_delivery_failing", "4", "0"),
    "TunegateUsageQuarantined": rise("tunegate_usage_quarantined_total"),
    "TunegateRecordsLost": Case(
        {'tunegate_request_log_total{outcome="full"}': "0x15 1x5"},
        {'tunegate_request_log_total{outcome="kept"}': "0+5x20", "tunegate_responses_not_kept_total": "2x20"},
    ),
    "TunegateControlDown": level('up{job="tunegate-control", instance="c"}', "0", "1"),
    "TunegateControlUnreachable": level(ANSWERS, "0", "1"),
    "TunegateSnapshotStale": level(ANSWERS, "0", "1"),
    "TunegateSnapshotRefused": rise("tunegate_snapshot_refused_total"),
    "TunegateSnapshotNotRendered": level("tunegate_snapshot_failing", "1", "0"),
    "TunegateDatabaseDown": level('tunegate_database_up{instance="c"}', "0", "1"),
    "TunegateLedgerLate": level("tunegate_ledger_lag_seconds", "400", "200"),
    "TunegateApiErrors": Case(
        {'tunegate_api_requests_total{status="500"}': "0+6x20", 'tunegate_api_requests_total{status="200"}': "0+60x20"},
        {'tunegate_api_requests_total{status="404"}': "0+6x20", 'tunegate_api_requests_total{status="200"}': "0+60x20"},
    ),
    "TunegateSignInsFail": Case(
        {'tunegate_api_requests_total{operation="login", status="401"}': "0+5x20"},
        {'tunegate_api_requests_total{operation="login", status="401"}': "0+1x20"},
    ),
    "TunegateBudgetsNearlySpent": level("tunegate_budgets_nearly_spent", "2", "0"),
    "TunegateDiskFilling": Case(
        {'tunegate_disk_free_bytes{folder="data"}': "8x20", 'tunegate_disk_bytes{folder="data"}': "100x20"},
        {'tunegate_disk_free_bytes{folder="data"}': "20x20", 'tunegate_disk_bytes{folder="data"}': "100x20"},
    ),
    "TunegateDiskFull": Case(
        {'tunegate_disk_free_bytes{folder="data"}': "2x20", 'tunegate_disk_bytes{folder="data"}': "100x20"},
        {'tunegate_disk_free_bytes{folder="data"}': "8x20", 'tunegate_disk_bytes{folder="data"}': "100x20"},
    ),
    "TunegateRetrievalFailing": Case(
        {'tunegate_retrieval_seconds_count{outcome="failed"}': "0+2x20",
         'tunegate_retrieval_seconds_count{outcome="found"}': "0+8x20"},
        {'tunegate_retrieval_seconds_count{outcome="nothing"}': "0+2x20",
         'tunegate_retrieval_seconds_count{outcome="found"}': "0+8x20"},
    ),
    "TunegateDocumentsStuck": level("tunegate_knowledge_queue_age_seconds", "4000", "3000"),
    "TunegateJobFailed": rise('tunegate_jobs{state="failed"}'),
    "TunegateJobLost": rise('tunegate_job_attempts{state="lost"}'),
    "TunegateQueueStuck": Case(
        {"tunegate_job_queue_age_seconds": "2000x20", 'tunegate_devices{worker="w", use="free"}': "1x20"},
        {"tunegate_job_queue_age_seconds": "2000x20", 'tunegate_devices{worker="w", use="free"}': "0x20",
         'tunegate_devices{worker="w", use="job"}': "1x20"},
    ),
    "TunegateWorkerSilent": level('tunegate_worker_silent_seconds{worker="w"}', "300", "90000"),
    "TunegateEngineDown": level('up{job="tunegate-engine", instance="e"}', "0", "1"),
    "TunegateEngineNotReady": Case(
        {ENGINE % "starting": "1x20", ENGINE % "ready": "0x20"}, {ENGINE % "starting": "0x20", ENGINE % "ready": "1x20"}
    ),
    "TunegateEngineRestarting": Case(
        {ENGINE % "ready": "1 0 1 0 1 0 1 0 1 0 1 1x9"}, {ENGINE % "ready": "1 0 1 1x17"}, 18
    ),
    "TunegateEngineQueue": level('vllm:num_requests_waiting{model_name="m"}', "12", "3"),
    "TunegateEngineCacheFull": level('vllm:kv_cache_usage_perc{model_name="m"}', "0.99", "0.9"),
}  # fmt: skip
