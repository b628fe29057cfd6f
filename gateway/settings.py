"""Process settings of a gateway: the tables `[gateway]`, `[control]`, `[usage]`, `[limits]`, `[cache]`, `[telemetry]`.

Frozen and read once at start; everything that may change while running is in the snapshot. Each may be overridden by
an environment variable, `TUNEGATE_` + table + `_` + key, such as `TUNEGATE_GATEWAY_LISTEN`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[float, Field(gt=0)]
Size = Annotated[int, Field(ge=1)]


def _listed(value: object) -> object:
    """A list in an environment variable is separated by commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class GatewayTable(_Table):
    """`[gateway]`: the listener and its protections."""

    listen: str = "127.0.0.1:8000"
    """Address and port. An address other than loopback needs at least one key in the configuration."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that share the port (SO_REUSEPORT, Linux). In-memory limits are split evenly between them."""
    data_dir: Path = Path("var/gateway")
    """Where the usage spool lives, and the ledger files or the last configuration from control."""
    currency: Annotated[str, Field(min_length=3, max_length=3, pattern="^[A-Z]{3}$")] = "USD"
    """Of prices and budgets."""
    max_body_bytes: Size = 33_554_432
    """A larger request body is answered 413."""
    max_upload_bytes: Size = 536_870_912
    """A larger multipart form (files, sound, images) is answered 413. Its parts pass while they arrive; it may take as
    long as it needs, but not pause for longer than `request_timeout`."""
    upload_disk_bytes: Annotated[int, Field(ge=0)] = 2_147_483_648
    """Disk, per worker, for forms whose `model` comes after the file: they wait in `data_dir` until it is known, and
    what does not fit is answered 503. 0: such forms may have 256 KiB."""
    max_header_bytes: Size = 65_536
    """Larger request headers are answered 431."""
    max_connections: Size = 10_000
    """Client connections per worker; one more is answered 503."""
    request_timeout: Positive = 30.0
    """Seconds a client may take to send a whole request."""
    keepalive_timeout: Positive = 75.0
    """Seconds an idle client connection is kept."""
    drain_timeout: Positive = 30.0
    """Seconds that running requests get to finish when the gateway is told to stop."""
    tls_cert: Path | None = None
    """PEM certificate chain: the listener speaks TLS. Renewed files are taken over within seconds."""
    tls_key: Path | None = None
    """PEM key of `tls_cert`, without a passphrase; absent: in the same file."""
    responses_days: Annotated[float, Field(ge=0)] = 30.0
    """Days that answers of /v1/responses are kept for later turns, unless a request says `store: false`; 0: never."""
    responses_dir: Path | None = None
    """Where they are kept; below `data_dir` by default. Replicas need one folder that all of them see."""
    objects_dir: Path | None = None
    """Where it is noted whose the files and batches at providers are; below `data_dir` by default. Replicas need one
    folder that all of them see."""
    cors_origins: Words = ()
    """Origins whose web pages may call /v1, such as https://console.example.com (in the environment separated by
    commas). The console's chat needs its own; `tunegate up` names it by itself."""

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            plain = origin.isascii() and origin == f"{parts.scheme}://{parts.netloc}".lower() and "@" not in origin
            if not plain or parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{origin!r} is not an origin, such as https://console.example.com")
        return value

    @field_validator("listen")
    @classmethod
    def _has_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise ValueError(f"{value!r} is not address:port, such as 127.0.0.1:8000 or [::1]:8000")
        return value

    @property
    def host(self) -> str:
        """The listener's address without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the listener."""
        return self.host.startswith("127.") or self.host in ("::1", "localhost")

    @property
    def port(self) -> int:
        """The listener's port; 0 lets the system choose."""
        return int(self.listen.rpartition(":")[2])


class ControlTable(_Table):
    """`[control]`: the control plane that this gateway runs from. Without a `url`, it runs from this file."""

    url: str | None = None
    """Address of control, such as https://control.example.com. Then this file holds no endpoint, route, team or key."""
    token: str | None = None
    """Service token that control made for gateways, as env:NAME or file:PATH. Needed with `url`."""
    ca_file: Path | None = None
    """PEM bundle of the authority that signed control's certificate; the system's bundle if absent."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{value!r} is not an http:// or https:// URL with a host")
            if parts.query or parts.fragment or parts.username or any(c <= " " for c in value):
                raise ValueError("the URL of control has no credentials, query, fragment, space or control character")
        return value

    @field_validator("token")
    @classmethod
    def _is_reference(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("env:", "file:")):
            raise ValueError("the service token is given as env:NAME or file:PATH, never in this file itself")
        return value

    @model_validator(mode="after")
    def _token_with_url(self) -> ControlTable:
        if self.url is not None and self.token is None:
            raise ValueError("token is missing: the service token that control made for gateways, as env:NAME")
        return self


class UsageTable(_Table):
    """`[usage]`: the durable spool and what it feeds."""

    spool_max_bytes: Annotated[int, Field(ge=1_048_576)] = 1_073_741_824
    """New requests are refused with 503 when undelivered records would need more than this, per worker."""
    segment_bytes: Annotated[int, Field(ge=65_536)] = 8_388_608
    """Size of one spool file."""
    flush_interval: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Seconds between deliveries to the ledger (and to disk)."""
    bodies_max_bytes: Annotated[int, Field(ge=1_048_576)] = 134_217_728
    """Memory for request and response bodies that a route keeps, until they are delivered, per worker. When it is
    full, bodies of further requests are not kept, and counted."""


class LimitsTable(_Table):
    """`[limits]`: where limits are counted."""

    backend: Literal["memory", "redis"] = "memory"
    """`memory`: exact in one process. `redis`: one count for all workers of all gateways that name the same Redis."""
    url: str | None = None
    """Of Redis (or Valkey), such as redis://redis.example.com:6379/0, or rediss:// for TLS. Needed with `redis`."""
    username: str | None = None
    """Of Redis's access list; absent: its default user."""
    password: str | None = None
    """Of Redis, as env:NAME or file:PATH."""
    ca_file: Path | None = None
    """PEM bundle of the authority that signed Redis's certificate; the system's bundle if absent."""
    prefix: Annotated[str, Field(pattern=r"^[\w.:-]{1,64}$")] = "tunegate"
    """Of all keys in Redis. Installations that share a Redis need one each."""
    lease: Annotated[float, Field(ge=0, le=0.2)] = 0.01
    """Share of a limit that a worker holds in advance: what spares most requests a call, and no more than what remains
    unused. Limits so small that the share is below 1 are asked for by each request."""
    lease_seconds: Annotated[float, Field(ge=0.5, le=60)] = 5.0
    """A worker that is silent for so long loses its leases; its places are free for others."""
    wait: Annotated[float, Field(gt=0, le=1)] = 0.005
    """Longest that a request waits for Redis, in seconds."""
    on_failure: Literal["open", "closed"] = "open"
    """While Redis does not answer: `open` goes on with an equal share of each limit in each worker, `closed` refuses
    with 503 what no lease covers."""
    share_breakers: bool = False
    """Whether a target that one worker's circuit breaker rests is rested by all. Needs `redis`."""

    @field_validator("url")
    @classmethod
    def _is_redis(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("redis", "rediss") or not parts.hostname or any(c <= " " for c in value):
                raise ValueError(f"{value!r} is not a redis:// or rediss:// URL with a host")
            if parts.username or parts.password or parts.query or not re.fullmatch(r"(/\d{0,4})?", parts.path):
                raise ValueError(
                    "the URL of Redis has a host, a port and a database's number; see username and password"
                )
        return value

    @field_validator("password")
    @classmethod
    def _is_reference(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("env:", "file:")):
            raise ValueError("the password of Redis is given as env:NAME or file:PATH, never in this file itself")
        return value

    @model_validator(mode="after")
    def _url_with_redis(self) -> LimitsTable:
        if self.backend == "redis" and self.url is None:
            raise ValueError("url is missing: where Redis is, such as redis://127.0.0.1:6379/0")
        if self.backend != "redis" and self.share_breakers:
            raise ValueError('share_breakers needs backend = "redis"')
        return self


class CacheTable(_Table):
    """`[cache]`: answers of routes with a response cache."""

    max_bytes: Annotated[int, Field(ge=0)] = 67_108_864
    """Memory for answers, per worker; the least recently used go first. 0: none. Where limits are counted in Redis,
    that has them, too."""


class TelemetryTable(_Table):
    """`[telemetry]`: logs, metrics, traces."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged."""
    access_log: Literal["off", "errors", "all"] = "errors"
    """Which requests get a log line. Every admitted request is in the usage ledger in any case."""
    metrics_token: str | None = None
    """Bearer token that /metrics asks for (env:NAME or file:PATH). Absent: open to whoever reaches the listener."""
    otlp_endpoint: str | None = None
    """OTLP/HTTP traces URL, such as http://127.0.0.1:4318/v1/traces. Absent: no tracing, at no cost."""
    trace_sample: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of requests that are traced. Those with a header `traceparent` (W3C) are traced if that says so."""


class Settings(_Table):
    """All process settings."""

    gateway: GatewayTable = GatewayTable()
    """The listener."""
    control: ControlTable = ControlTable()
    """Where the configuration comes from and usage goes to."""
    usage: UsageTable = UsageTable()
    """The spool."""
    limits: LimitsTable = LimitsTable()
    """Where limits are counted."""
    cache: CacheTable = CacheTable()
    """Answers that are given again."""
    telemetry: TelemetryTable = TelemetryTable()
    """Logs, metrics, traces."""


TABLES = tuple(Settings.model_fields)
"""Names of the tables in config.toml that are process settings; all other tables belong to the snapshot."""
