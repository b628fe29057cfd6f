"""The command line of the data plane: serve, usage, route explain, config check, and the pages made from code."""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from gateway import app, workers
from gateway.contract import snapshot as wire
from gateway.errors import ConfigError
from gateway.explain import explain
from gateway.limits.gate import NANO
from gateway.runtime import KeyRecord
from gateway.settings import Settings
from gateway.snapshot.compile import compile_snapshot
from gateway.snapshot.file import load, report
from gateway.snapshot.secrets import secret
from gateway.telemetry import logging as json_logging
from gateway.telemetry.metrics import documentation
from gateway.usage.ledger import summarise

GROUPS = ("key", "team", "model", "route", "endpoint", "day")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the result is the process's exit status."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return command(arguments)
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tunegate", description="Tunegate's data plane.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve the inference API")
    serve.add_argument("--config", type=Path, default=Path("config.toml"))
    serve.add_argument("--workers", type=int, help="overrides [gateway] workers")
    serve.add_argument("--listen", help="overrides [gateway] listen")
    serve.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    serve.set_defaults(run=_serve)

    usage = commands.add_parser("usage", help="summarise the stand-alone ledger: requests, tokens, cost")
    usage.add_argument("--config", type=Path, default=Path("config.toml"))
    usage.add_argument("--by", default="key,model,day", help=f"comma-separated: {', '.join(GROUPS)}")
    usage.add_argument("--since", help="UTC date, such as 2027-01-31")
    usage.add_argument("--shadow", action="store_true", help="of the copies for shadow targets, not of the requests")
    usage.add_argument("--csv", action="store_true")
    usage.set_defaults(run=_usage)

    route = commands.add_parser("route", help="ask about routing").add_subparsers(required=True, metavar="COMMAND")
    why = route.add_parser("explain", help="what would happen to a request for MODEL, and why")
    why.add_argument("model")
    why.add_argument("--key", help="name of a key, or the key itself")
    why.add_argument("--config", type=Path, default=Path("config.toml"))
    why.set_defaults(run=_explain)

    config = commands.add_parser("config", help="ask about a configuration").add_subparsers(
        required=True, metavar="COMMAND"
    )
    check = config.add_parser("check", help="say every mistake in a configuration file, with its line")
    check.add_argument("file", type=Path)
    check.set_defaults(run=_check)

    pages = commands.add_parser("docs", help="print a page that is made from the code")
    pages.add_argument("page", choices=["metrics", "settings"])
    pages.set_defaults(run=_docs)
    return parser


def _load(path: Path) -> tuple[Settings, wire.Snapshot]:
    """The configuration, or SystemExit with every mistake in it."""
    try:
        settings, snapshot = load(path)
        compile_snapshot(snapshot)
    except ConfigError as exc:
        raise SystemExit("\n".join(report(path, exc))) from exc
    except OSError as exc:
        raise SystemExit(f"{path}: {exc.strerror}; --config names the configuration file") from exc
    return settings, snapshot


def _serve(arguments: argparse.Namespace) -> int:
    path: Path = arguments.config
    if arguments.listen:
        os.environ["TUNEGATE_GATEWAY_LISTEN"] = arguments.listen
    if arguments.workers:
        os.environ["TUNEGATE_GATEWAY_WORKERS"] = str(arguments.workers)
    settings, snapshot = _load(path)
    _check_references(settings, path)
    json_logging.configure(settings.telemetry.log_level)
    gateway = settings.gateway
    many = gateway.workers > 1
    if many and sys.platform != "linux":
        raise SystemExit("[gateway] workers: several workers share a port on Linux only; use 1")
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn listens while it serves, and repeats a signal after its own stop, when ours goes on to flush
        signal.signal(number, lambda received, _: told.append(received))
    try:
        if not many or arguments.worker is not None:
            listener = workers.listen(gateway.host, gateway.port, shared=many)
            app.run(settings, snapshot, path, listener, arguments.worker or 0, told)
            return 0
        reserved = workers.listen(gateway.host, gateway.port, shared=True)
        port = reserved.getsockname()[1]
        reserved.close()
    except OSError as exc:
        raise SystemExit(f"[gateway] listen: cannot listen on {gateway.listen}: {exc.strerror}") from exc
    os.environ["TUNEGATE_GATEWAY_LISTEN"] = f"{gateway.listen.rpartition(':')[0]}:{port}"
    command = [sys.executable, "-P", "-m", "gateway", "serve", "--config", str(path)]
    return asyncio.run(workers.supervise(command, gateway.workers, gateway.drain_timeout + 10.0))


def _usage(arguments: argparse.Namespace) -> int:
    settings, _ = _load(arguments.config)
    if settings.control.url:
        raise SystemExit(f"the ledger of this gateway is kept by control: see the console of {settings.control.url}")
    groups = tuple(arguments.by.split(","))
    if unknown := set(groups) - set(GROUPS):
        raise SystemExit(f"--by: {', '.join(sorted(unknown))} is not among {', '.join(GROUPS)}")
    since = 0.0
    if arguments.since:
        try:
            since = datetime.strptime(arguments.since, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
        except ValueError as exc:
            raise SystemExit(f"--since: {arguments.since!r} is not a date such as 2027-01-31") from exc
    rows = summarise(settings.gateway.data_dir / "usage", groups, since, arguments.shadow)
    names = [*groups, "requests", "errors", "input tokens", "output tokens", f"cost {settings.gateway.currency}"]
    table = [
        [*(_shown(row[g]) for g in groups), *(str(row[n]) for n in ("requests", "errors", "input", "output")),
         f"{row['cost_nano'] / NANO:.9f}".rstrip("0").rstrip(".")]
        for row in rows
    ]  # fmt: skip
    if arguments.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([names, *table])
        return 0
    widths = [max(map(len, column)) for column in zip(names, *table, strict=True)]
    for line in [names, ["-" * w for w in widths], *table]:
        cells = [
            c.ljust(w) if i < len(groups) else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    return 0


def _shown(name: str) -> str:
    """A name as a line of text: clients of wildcard routes choose some, and a terminal obeys control characters."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def _explain(arguments: argparse.Namespace) -> int:
    settings, snapshot = _load(arguments.config)
    if settings.control.url:
        raise SystemExit(f"the routes of this gateway are kept by control: see the console of {settings.control.url}")
    runtime = compile_snapshot(snapshot)
    key: KeyRecord | None = None
    if arguments.key:
        key = runtime.keys.get(hashlib.sha256(arguments.key.encode()).digest())
        key = key or next((k for k in runtime.keys.values() if k.name == arguments.key), None)
        if key is None:
            raise SystemExit("--key: neither the name of a key nor a key itself")
    for line in explain(runtime, arguments.model, key, time.time()):
        print(line)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    settings, snapshot = _load(arguments.file)
    _check_references(settings, arguments.file)
    if settings.control.url:
        print(f"{arguments.file}: good. Endpoints, routes, teams and keys come from {settings.control.url}.")
        return 0
    print(
        f"{arguments.file}: good. {len(snapshot.endpoints)} endpoints, {len(snapshot.routes)} routes, "
        f"{len(snapshot.teams)} teams, {len(snapshot.keys)} keys; limits in {settings.limits.backend}, "
        f"{settings.gateway.workers} worker(s) on {settings.gateway.listen}."
    )
    if not snapshot.keys:
        print(f"{arguments.file}: there is no [[key]] yet: every request will be answered 401.")
    return 0


def _check_references(settings: Settings, path: Path) -> None:
    """SystemExit if a secret or file that the process settings point at is not there."""
    control = settings.control
    limits = settings.limits
    references = {
        "telemetry.metrics_token": settings.telemetry.metrics_token,
        "control.token": control.token,
        "limits.password": limits.password if limits.backend == "redis" else None,
    }
    for place, reference in references.items():
        try:
            if reference:
                secret(reference)
        except ValueError as exc:
            raise SystemExit(f"{path}: {place}: {exc}") from exc
    for place, file in (("control.ca_file", control.ca_file), ("limits.ca_file", limits.ca_file)):
        if file is not None and not file.is_file():
            raise SystemExit(f"{path}: {place}: the file {file} does not exist")
    if limits.backend == "redis" and find_spec("redis") is None:
        raise SystemExit(f"{path}: limits.backend: redis needs packages of its own: pip install 'tunegate[redis]'")


def _docs(arguments: argparse.Namespace) -> int:
    from gateway.settings_page import settings_page  # noqa: PLC0415  (only this command needs it)

    print(documentation() if arguments.page == "metrics" else settings_page(), end="")
    return 0
