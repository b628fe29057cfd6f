"""Process settings of the control plane: the `[console]`, `[database]`, `[secrets]` and `[retention]` tables.

Read once at start. Each may be overridden by an environment variable, `TUNEGATE_` + table + `_` + key, such as
`TUNEGATE_DATABASE_URL`.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from control.errors import ConfigError

Seconds = Annotated[float, Field(gt=0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ConsoleTable(_Table):
    """`[console]`: the listener of the control API and the console."""

    listen: str = "127.0.0.1:8080"
    """Address and port. On an address other than loopback, `[secrets] key` must be set."""
    data_dir: Path = Path("var/control")
    """Where the embedded database and generated secrets live."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    """A larger request body is answered 413 (usage batches: 16 times as much)."""
    access_token_seconds: Annotated[int, Field(ge=60, le=86_400)] = 900
    """Life of an access token."""
    refresh_token_seconds: Annotated[int, Field(ge=300, le=31_536_000)] = 1_209_600
    """Life of a login without use; each refresh begins it again."""
    allow_private_upstreams: bool = False
    """Whether "test connection" may reach private and loopback addresses, where self-hosted models are."""

    @field_validator("listen")
    @classmethod
    def _has_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise ValueError(f"{value!r} is not address:port, such as 127.0.0.1:8080 or [::1]:8080")
        return value

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

    url: str = ""
    """`postgresql+asyncpg://…`, `mysql+asyncmy://…` or `sqlite+aiosqlite:///FILE`. Empty: SQLite in `data_dir`.
    A value `env:NAME` or `file:PATH` is read from there."""
    pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    """Connections kept open (not for SQLite)."""


class SecretsTable(_Table):
    """`[secrets]`: what seals the credentials of providers."""

    key: str = ""
    """Key-encryption key, 32 bytes in urlsafe base64, as `env:NAME` or `file:PATH`. Empty: one is made in `data_dir`,
    which is only allowed on a loopback listener."""


class RetentionTable(_Table):
    """`[retention]`: how long usage is kept. Sums by key and day, by team and shift, budgets and the audit log stay."""

    ledger_days: Annotated[int, Field(ge=0, le=36_500)] = 400
    """Days for which each request is kept, at least 35, since budgets of a month are summed from them. 0: for ever."""
    hourly_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    """Days for which sums by hour are kept, at least as many as `ledger_days`: reports of an older time know whole
    days of keys, teams and owners, and nothing of routes and endpoints. 0: for ever."""

    @model_validator(mode="after")
    def _fit(self) -> RetentionTable:
        if 0 < self.ledger_days < 35:
            raise ValueError("ledger_days is 0 or at least 35")
        if 0 < self.hourly_days < (self.ledger_days or 36_501):
            raise ValueError("hourly_days is 0 or at least ledger_days: sums outlive what they sum up")
        return self


class Settings(_Table):
    """All process settings of the control plane."""

    console: ConsoleTable = ConsoleTable()
    """The listener."""
    database: DatabaseTable = DatabaseTable()
    """The database."""
    secrets: SecretsTable = SecretsTable()
    """Sealing."""
    retention: RetentionTable = RetentionTable()
    """How long usage is kept."""

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
