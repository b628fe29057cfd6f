"""A backup: taken while others write, restored into an empty database of any kind, all of it or nothing."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from control import commands
from control.backup import archive, rows
from control.backup.archive import BackupError, Manifest, Reader
from control.backup.restore import restore
from control.backup.save import save
from control.db import Database
from control.kit.audit import Actor, note
from control.migrations.run import migrate
from control.models import KnowledgeBase, KnowledgeVector, Team
from control.models.base import new_id
from tests.control.test_ledger import event, send
from tests.load.seed import seed

ODD = "Grüße 你好 🚀 ' \" \\ \n\t a\u2028b"


def quiet(_: str) -> None:
    """Told what is done."""


def full(*_: object, **__: object) -> None:
    """In place of what writes to a disk."""
    raise OSError(28, "No space left on device")


async def filled(db: Database) -> None:
    """People, keys, a ledger, an audit log, and rows with bytes, JSON and odd texts."""
    await migrate(db.engine)
    await seed(db, rows=400, keys=12)
    async with db.write() as session:
        base = KnowledgeBase(
            name="handbook", description=ODD, owner_kind="user", owner="admin", readers=[{"kind": ODD}]
        )
        session.add_all([base, Team(name="odd", description="")])
        await session.flush()
        session.add(KnowledgeVector(base_id=base.id, sha256="0" * 64, vector=bytes(range(256)) * 6))
        note(session, Actor("system"), "create", "knowledge_base", ODD, after={"a": [1, None, {"b": 1.5e-9}]})


def dumped(path: Path) -> dict[str, list[bytes]]:
    """The lines of all tables; databases order texts in their own ways."""
    return {name: sorted(source.readlines()) for name, source in Reader(path).members() if name.startswith("tables/")}


def test_what_is_restored_is_what_was_kept(database_url: str, tmp_path: Path) -> None:
    async def main() -> None:
        db, copy = Database(database_url), Database(f"sqlite+aiosqlite:///{tmp_path / 'copy.db'}")
        try:
            await filled(db)
            first = await save(db, tmp_path / "a.tar.gz", {}, quiet)
            assert first.members["tables/usage_event.jsonl"].rows == 400
            await restore(copy, tmp_path / "a.tar.gz", {}, quiet)
            await save(copy, tmp_path / "b.tar.gz", {}, quiet)
            assert dumped(tmp_path / "a.tar.gz") == dumped(tmp_path / "b.tar.gz")
        finally:
            await db.close()
            await copy.close()

    asyncio.run(main())


def test_it_goes_back_into_every_kind_of_database_which_counts_on(database_url: str, tmp_path: Path) -> None:
    async def main() -> None:
        source, db = Database(f"sqlite+aiosqlite:///{tmp_path / 'source.db'}"), Database(database_url)
        try:
            await filled(source)
            await save(source, tmp_path / "a.tar.gz", {}, quiet)
            await restore(db, tmp_path / "a.tar.gz", {}, quiet)
            await save(db, tmp_path / "b.tar.gz", {}, quiet)
            assert dumped(tmp_path / "a.tar.gz") == dumped(tmp_path / "b.tar.gz")
            assert await send(db, event()) == (1, 0, 0), "numbers go on after those that came back"
            with pytest.raises(BackupError, match="not empty"):
                await restore(db, tmp_path / "a.tar.gz", {}, quiet)
        finally:
            await source.close()
            await db.close()

    asyncio.run(main())


def test_it_is_of_one_moment_while_others_write(database_url: str, tmp_path: Path) -> None:
    async def main() -> None:
        db = Database(database_url)

        async def write() -> int:
            written = 0
            while not (tmp_path / "a.tar.gz").exists():
                async with db.write() as session:  # two rows that belong together
                    name = f"moment-{new_id()}"
                    session.add(Team(name=name, description=""))
                    note(session, Actor("system"), "create", "team", name)
                written += 1
            return written

        try:
            await migrate(db.engine)
            await seed(db, rows=400, keys=12)
            writing = asyncio.create_task(write())
            await asyncio.sleep(0.05)
            await save(db, tmp_path / "a.tar.gz", {}, quiet)
            assert await writing > 1
        finally:
            await db.close()

    asyncio.run(main())
    found = dumped(tmp_path / "a.tar.gz")
    names = {json.loads(line)["name"] for line in found["tables/team.jsonl"]}
    noted = {json.loads(line)["resource"] for line in found["tables/audit_log.jsonl"]}
    assert {one for one in names if one.startswith("moment-")} == {one for one in noted if one.startswith("moment-")}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of an SQLite database with two files."""
    tmp_path = tmp_path_factory.mktemp("kept")
    area = tmp_path / "training"
    (area / "datasets/a").mkdir(parents=True)
    (area / "datasets/a/data.jsonl").write_bytes(b"{}\n" * 100_000)
    (area / "空.txt").write_bytes(b"")
    (area / "link").symlink_to("/etc/hostname")

    async def main() -> None:
        db = Database(f"sqlite+aiosqlite:///{tmp_path / 'source.db'}")
        try:
            await filled(db)
            await save(db, tmp_path / "kept.tar.gz", {"training": area, "knowledge": tmp_path / "none"}, quiet)
        finally:
            await db.close()

    asyncio.run(main())
    return tmp_path / "kept.tar.gz"


def taken_back(path: Path, folder: Path, **folders: Path) -> Manifest:
    folder.mkdir(exist_ok=True)

    async def main() -> Manifest:
        db = Database(f"sqlite+aiosqlite:///{folder / 'target.db'}")
        try:
            return await restore(db, path, folders, quiet)
        finally:
            await db.close()

    return asyncio.run(main())


def test_files_come_back_where_they_were_and_links_do_not(kept: Path, tmp_path: Path) -> None:
    assert (kept.stat().st_mode & 0o777) == 0o600
    manifest = taken_back(kept, tmp_path / "t", training=tmp_path / "t/training", knowledge=tmp_path / "t/knowledge")
    assert {name for name in manifest.members if name.startswith("files/")} == {
        "files/training/datasets/a/data.jsonl", "files/training/空.txt",
    }  # fmt: skip
    assert (tmp_path / "t/training/datasets/a/data.jsonl").read_bytes() == b"{}\n" * 100_000
    assert (tmp_path / "t/training/空.txt").read_bytes() == b""
    with pytest.raises(BackupError, match="is not empty"):
        taken_back(kept, tmp_path / "u", training=tmp_path / "t/training")


def rewritten(path: Path, out: Path, change: Callable[[str, bytes], list[tuple[str, bytes, bytes]]]) -> None:
    """Another archive: `change` makes (name, type, content) of each member."""
    with tarfile.open(path) as old, tarfile.open(out, "w:gz") as new:
        for one in old:
            source = old.extractfile(one)
            assert source is not None
            for name, kind, content in change(one.name, source.read()):
                info = tarfile.TarInfo(name)
                info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
                new.addfile(info, io.BytesIO(content))


FILE = tarfile.REGTYPE
TABLE, MANIFEST = "tables/team.jsonl", "manifest.json"


def beside(where: str, name: str, kind: bytes = FILE) -> Callable[[str, bytes], list[tuple[str, bytes, bytes]]]:
    """One more member behind the one at `where`."""
    return lambda at, body: [(at, FILE, body), *([(name, kind, b"")] if at == where else [])]


def without(where: str) -> Callable[[str, bytes], list[tuple[str, bytes, bytes]]]:
    return lambda at, body: [] if at == where else [(at, FILE, body)]


def changed(old: bytes, new: bytes) -> Callable[[str, bytes], list[tuple[str, bytes, bytes]]]:
    return lambda at, body: [(at, FILE, body.replace(old, new))]


HOSTILE = {
    "a changed row": changed(b"admin", b"admim"),
    "a missing table": without(TABLE),
    "another table": beside(TABLE, "tables/x.jsonl"),
    "a way out": beside(TABLE, "files/training/../../x"),
    "an absolute path": beside(TABLE, "/tmp/x"),
    "a link": beside(TABLE, "files/training/x", tarfile.SYMTYPE),
    "no manifest": without(MANIFEST),
    "an odd manifest": changed(b'"format"', b'"form"'),
    "another schema": changed(b'"schema_revision": "', b'"schema_revision": "9'),
    "something after it": beside(MANIFEST, "tables/y.jsonl"),
    "a name twice": beside(TABLE, TABLE),
    "no name": beside(TABLE, "."),
}


@pytest.mark.parametrize("what", [*HOSTILE, "cut", "no archive", "not there"])
def test_a_damaged_or_hostile_archive_is_refused_and_nothing_is_written(kept: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "other.tar.gz"
    if what in HOSTILE:
        rewritten(kept, path, HOSTILE[what])
    elif what == "cut":
        path.write_bytes(kept.read_bytes()[:-2000])
    elif what == "no archive":
        path.write_bytes(gzip.compress(b"hello"))
    with pytest.raises(BackupError):
        taken_back(path, tmp_path / "t", training=tmp_path / "t/training")
    assert not (tmp_path / "t/training").exists()
    if what == "another schema":  # the only one of which the database hears
        taken_back(kept, tmp_path / "t")


def test_rows_that_do_not_fit_undo_the_others(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = rows.read

    def bad(table, line):
        values = good(table, line)
        return values | {"owner_kind": None} if table.name == "knowledge_base" else values

    monkeypatch.setattr(rows, "read", bad)
    with pytest.raises(BackupError, match="empty as before"):
        taken_back(kept, tmp_path / "t", training=tmp_path / "t/training")
    assert not (tmp_path / "t/training").exists()
    monkeypatch.undo()
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(BackupError, match="Nothing was kept"):
        taken_back(kept, tmp_path / "t", training=tmp_path / "t/training")
    monkeypatch.undo()
    taken_back(kept, tmp_path / "t", training=tmp_path / "t/training")


def test_one_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        db = Database(f"sqlite+aiosqlite:///{tmp_path / 'source.db'}")
        try:
            with pytest.raises(BackupError, match="empty"):
                await save(db, tmp_path / "a.tar.gz", {}, quiet)
            await filled(db)
            (tmp_path / "there.tar.gz").touch()
            with pytest.raises(BackupError, match="there already"):
                await save(db, tmp_path / "there.tar.gz", {}, quiet)
            with pytest.raises(BackupError, match="cannot be written"):
                await save(db, tmp_path / "nowhere/a.tar.gz", {}, quiet)

            monkeypatch.setattr(archive.Writer, "add", full)
            with pytest.raises(BackupError, match="No space left"):
                await save(db, tmp_path / "full.tar.gz", {}, quiet)
        finally:
            await db.close()

    asyncio.run(main())
    assert sorted(path.name for path in tmp_path.glob("*tar.gz*")) == ["there.tar.gz"]


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = tmp_path / "config.toml", str(tmp_path / "a.tar.gz")

    def tunegate(*words: str) -> tuple[int, str]:
        status = commands.main([*words, "--config", str(config)])
        return status, "".join(capsys.readouterr())

    config.write_text(f'[console]\ndata_dir = "{tmp_path / "one"}"\n')
    assert tunegate("migrate")[0] == 0
    status, said = tunegate("backup", out, "--files")
    assert (status, "counter: " in said) == (0, True), said
    assert tunegate("backup", out) == (2, f"tunegate: {out} is there already\n")
    config.write_text(f'[console]\ndata_dir = "{tmp_path / "two"}"\n')
    status, said = tunegate("restore", out)
    assert (status, said.splitlines()[-1][:7]) == (0, "restore"), said
