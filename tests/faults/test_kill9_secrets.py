"""A new key-encryption key while control serves: `secrets rotate` is killed half-way, run again; nothing is lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from control.security import new_kek
from gateway.contract.seal import unseal
from tests.fakes.gateway import eventually
from tests.fakes.killed import COMMIT, Point, killed_at, run_command
from tests.fakes.plane import Plane

SECRETS = {f"endpoint-{n}": f"sk-live-secret-of-endpoint-{n:03d}" for n in range(12)}


class Installation:
    """A control process, its configuration with a key that can be changed, and what gateways get of it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.plane, self.url = Plane(folder, url), url
        self._base = self.plane.config.read_text()
        self.keys = [folder / f"key-{n}" for n in range(3)]
        for file in self.keys:
            file.write_text(new_kek())
        self.configure(0)

    def configure(self, key: int, previous: int | None = None) -> None:
        more = "" if previous is None else f'previous_key = "file:{self.keys[previous]}"\n'
        self.plane.config.write_text(f'{self._base}[secrets]\nkey = "file:{self.keys[key]}"\n{more}')

    def restart(self) -> None:
        process = self.plane.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        self.plane.start()
        token = self.plane.post("/auth/login", username="admin", password="a password of my own")["access_token"]
        self.plane.client.headers["authorization"] = f"Bearer {token}"

    def seen_by_gateways(self) -> dict[str, str]:
        headers = {"authorization": f"Bearer {self.plane.service_token}"}
        head = httpx.get(f"{self.plane.url}/internal/v1/snapshot", headers=headers, trust_env=False).json()
        return {
            one["name"]: unseal(one["api_key"], self.plane.service_token, one["name"], one["base_url"])
            for one in head["endpoint"]
            if one["api_key"]
        }

    def published(self, secrets: dict[str, str], message: str = "") -> None:
        """A change is in the next snapshot, within the two seconds that are promised (and more on a busy machine)."""
        eventually(lambda: self.seen_by_gateways() == secrets, 10, message)

    def kek_ids(self) -> list[str]:
        async def main() -> list[str]:
            engine = create_async_engine(self.url)
            async with engine.connect() as connection:
                found: Any = (await connection.scalars(text("SELECT DISTINCT kek_id FROM credential"))).all()
            await engine.dispose()
            return list(found)

        return asyncio.run(main())


@pytest.fixture
def installation(database_url: str, tmp_path: Path) -> Iterator[Installation]:
    one = Installation(tmp_path, database_url)
    with one.plane as plane:
        for name, secret in SECRETS.items():
            spec = {"base_url": "https://api.example.com/v1"}
            plane.post("/endpoints", name=name, provider="openai", spec=spec)
            plane.post(f"/endpoints/{name}/credentials", name="main", secret=secret)
        yield one


KILLS: dict[str, Point] = {
    "before the first row": ("before", "UPDATE credential", 1),
    "in the middle": ("after", "UPDATE credential", 7),
    "before the commit": COMMIT,
}


@pytest.mark.timeout(240)
def test_a_rotation_that_is_killed_changes_nothing_and_is_done_by_the_next(installation: Installation) -> None:
    plane = installation.plane
    installation.published(SECRETS)
    (old,) = installation.kek_ids()
    plane.post("/chat/sessions", title="t", messages=[{"role": "user", "content": "kept over all keys"}])

    installation.configure(1, previous=0)
    installation.restart()
    installation.published(SECRETS, "a process with both keys opens everything")
    for point in KILLS.values():
        killed_at(point, plane.config, "secrets-rotate")
        assert installation.kek_ids() == [old]
    installation.published(SECRETS)
    plane.post("/endpoints/endpoint-0/credentials", name="second", secret="sk-live-made-under-the-new-key")
    assert len(installation.kek_ids()) == 2

    done = run_command(plane.config, "secrets-rotate")
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["12", "credentials"]), done.stderr
    (new,) = installation.kek_ids()
    assert new != old
    assert "the keys of 1 chat sessions were wrapped anew" in done.stdout
    again = run_command(plane.config, "secrets-rotate").stdout
    assert again.startswith("0 credentials"), "twice changes nothing"
    assert "the keys of 0 chat sessions" in again
    both = SECRETS | {"endpoint-0+2": "sk-live-made-under-the-new-key"}
    installation.published(both)

    installation.configure(1)
    installation.restart()
    installation.published(both, "the old key is not needed any more")
    (chat,) = plane.get("/chat/sessions", search="kept over")["items"]
    (message,) = plane.get(f"/chat/sessions/{chat['id']}")["messages"]
    assert message["content"] == "kept over all keys"
    (entry,) = [one for one in plane.get("/audit", per_page=100)["items"] if one["action"] == "rotate"]
    assert (entry["resource"], entry["after"]) == (new, '{"count":12}')
    assert plane.get("/audit/verify")["intact"]


@pytest.mark.timeout(240)
def test_a_rotation_without_the_key_that_sealed_says_which_and_changes_nothing(installation: Installation) -> None:
    (old,) = installation.kek_ids()
    installation.configure(1, previous=2)
    done = run_command(installation.plane.config, "secrets-rotate")
    assert done.returncode == 2
    assert "nothing was changed: the credential 'main' of the endpoint 'endpoint-" in done.stderr
    assert old in done.stderr
    assert "previous_key" in done.stderr
    assert installation.kek_ids() == [old]
    installation.published(SECRETS, "the running process is not disturbed")
