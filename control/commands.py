"""Operations of the control plane: `python -m control.commands COMMAND --config FILE`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from control import security
from control.auth.service import create_user, generated_password
from control.backup.archive import BackupError
from control.backup.restore import restore
from control.backup.save import save
from control.bootstrap import SYSTEM, FirstRun, bootstrap
from control.db import Database
from control.errors import ConfigError, Problem
from control.imports import apply as imports
from control.imports.plan import Line, Plan
from control.internal.tokens import new_service_token
from control.kit.metrics import documentation
from control.migrations.run import migrate
from control.models import ChatSession, RequestBody
from control.providers import secrets
from control.rewrap import rewrap
from control.settings import ConsoleTable, Settings, load
from control.settings_page import settings_page

PAGES = {"settings": settings_page, "metrics": documentation}
"""Of docs/, made from code."""


def main(argv: Sequence[str]) -> int:
    """Run one command; 0 when it worked, 2 when its input or settings are wrong."""
    parser = argparse.ArgumentParser(prog="tunegate", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="run the control API")
    migrating = commands.add_parser("migrate", help="bring the database up to date")
    migrating.add_argument("revision", nargs="?", default="head", help="a revision, `head` or `base`")
    admin = commands.add_parser("admin-create", help="make an administrator; prints the password once")
    admin.add_argument("username")
    token = commands.add_parser("token-new", help="make a service token for a gateway; prints it once")
    token.add_argument("name")
    commands.add_parser("bootstrap", help="fill an empty database with what standard input says (JSON)")
    commands.add_parser("check", help="say what is wrong with the settings")
    commands.add_parser("settings", help="print the page of settings")
    commands.add_parser("metrics", help="print the page of metrics")
    commands.add_parser("openapi", help="print the description of the control API")
    commands.add_parser("secrets-new", help="print a new key-encryption key")
    commands.add_parser("secrets-rotate", help="wrap every credential anew under [secrets] key")
    importing = commands.add_parser("import", help="take over endpoints, routes and keys of another gateway")
    importing.add_argument("source", choices=("litellm", "one-api"), help="what the file is of")
    importing.add_argument("file", type=Path, help="LiteLLM's config.yaml, or one-api's SQLite database")
    importing.add_argument("--dry-run", action="store_true", help="say what would be made, and write nothing")
    for name, does in (("backup", "write all of the database to FILE"), ("restore", "FILE into an empty database")):
        keeping = commands.add_parser(name, help=does)
        keeping.add_argument("file", type=Path)
        keeping.add_argument("--files", action="store_true", help="datasets, adapters and documents, too")
    for command in commands.choices.values():
        command.add_argument("--config", type=Path, default=None, help="config.toml")
    options = parser.parse_args(argv)
    try:
        if options.command == "secrets-new":
            print(security.new_kek())
            return 0
        return _run(options, load(options.config))
    except (ConfigError, Problem, BackupError) as exc:
        print(f"tunegate: {exc}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, settings: Settings) -> int:
    match options.command:
        case "serve":
            return _serve(settings)
        case "bootstrap":
            asyncio.run(_bootstrap(settings, FirstRun.model_validate_json(sys.stdin.read())))
        case "check":
            security.open_vault(settings)
        case "settings" | "metrics":
            print(PAGES[options.command](), end="")
        case "openapi":
            print(json.dumps(describe(), indent=1, ensure_ascii=False, sort_keys=True))
        case "migrate":
            asyncio.run(_migrate(settings, options.revision))
        case "admin-create":
            print(asyncio.run(_admin_create(settings, options.username)))
        case "token-new":
            print(asyncio.run(_token_new(settings, options.name)))
        case "import":
            plan = imports.read(options.source, options.file)
            print(imports.text(asyncio.run(_import(settings, plan, options.dry_run)), dry_run=options.dry_run))
        case "backup" | "restore":
            asyncio.run(_keep(settings, options.command, options.file, with_files=options.files))
        case "secrets-rotate":
            asyncio.run(_rotate(settings, security.open_vault(settings)))
    return 0


def _serve(settings: Settings) -> int:
    """Run the control API. What is made for it stays to the end, so the collector need not look it through."""
    gc.disable()
    from control.app import build  # noqa: PLC0415 - the whole API, which other commands need not load
    from control.server import serve  # noqa: PLC0415

    app = build(settings)
    gc.enable()
    gc.freeze()
    return serve(app, settings)


def describe() -> dict[str, Any]:
    """The OpenAPI document, which depends on no setting."""
    from control.app import build  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory() as folder:
        return build(Settings(console=ConsoleTable(data_dir=Path(folder)))).openapi()


async def _migrate(settings: Settings, revision: str) -> None:
    settings.console.data_dir.mkdir(parents=True, exist_ok=True)
    db = Database(settings.database_url)
    try:
        await migrate(db.engine, revision)
    finally:
        await db.close()


async def _bootstrap(settings: Settings, first: FirstRun) -> None:
    await _migrate(settings, "head")
    db = Database(settings.database_url)
    try:
        async with db.write() as session:
            await bootstrap(session, first)
    finally:
        await db.close()


async def _admin_create(settings: Settings, username: str) -> str:
    db, password = Database(settings.database_url), generated_password()
    hashed = await security.hash_password(password)
    try:
        async with db.write() as session:
            await create_user(session, SYSTEM, username, "admin", hashed, must_change_password=True)
    finally:
        await db.close()
    return password


async def _token_new(settings: Settings, name: str) -> str:
    db = Database(settings.database_url)
    try:
        async with db.write() as session:
            return await new_service_token(session, SYSTEM, name)
    finally:
        await db.close()


async def _import(settings: Settings, plan: Plan, dry_run: bool) -> list[Line]:
    vault, db = security.open_vault(settings), Database(settings.database_url)
    try:
        return await imports.apply(db, vault, plan, dry_run=dry_run)
    finally:
        await db.close()


async def _keep(settings: Settings, command: str, file: Path, *, with_files: bool) -> None:
    settings.console.data_dir.mkdir(parents=True, exist_ok=True)
    folders = {"training": settings.training_dir, "knowledge": settings.knowledge_dir} if with_files else {}
    db = Database(settings.database_url)
    try:
        done = await (save if command == "backup" else restore)(db, file, folders, print)
    finally:
        await db.close()
    members = done.members.values()
    rows = sum(one.rows or 0 for one in members)
    print(f"{command} of {rows} rows and {sum(one.rows is None for one in members)} files: {file}")


async def _rotate(settings: Settings, vault: security.Vault) -> None:
    db = Database(settings.database_url)
    try:
        async with db.write() as session:
            count = await secrets.rotate(session, vault, SYSTEM)
        print(f"{count} credentials were wrapped anew, by the key {vault.kek_id}")
        for table, what in ((RequestBody, "the bodies of {} requests"), (ChatSession, "{} chat sessions")):
            count, lost = await rewrap(db, vault, table)
            unreadable = f"; {lost} do not open" if lost else ""
            print(f"the keys of {what.format(count)} were wrapped anew{unreadable}")
    finally:
        await db.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
