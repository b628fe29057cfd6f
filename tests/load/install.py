"""Put the peers into the cache folder, with each ecosystem's ordinary client. What cannot be had says why."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

LIMIT = 900
HEAVY = re.compile(r"^(torch|nvidia-|triton$|vllm$)")
"""Packages that a gateway has no business to bring along: gigabytes for a benchmark."""


class Unavailable(Exception):
    """A system cannot be installed or started here; the text is its row in the report."""


def _run(command: list[str], what: str) -> str:
    """Run an installer; its last line of complaint becomes the reason."""
    environment = os.environ | {
        "DEBIAN_FRONTEND": "noninteractive",
        "RUNLEVEL": "1",
    }  # RUNLEVEL: start no service
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Unavailable(f"{what}: {type(exc).__name__}") from exc
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise Unavailable(f"{what}: {lines[-1][:200]}")
    return done.stdout


def debian(package: str) -> Callable[[Path], Path]:
    """A system package; installed only if its program is missing and we may."""

    def prepare(_: Path) -> Path:
        search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        if not shutil.which(package, path=search):
            if os.geteuid() != 0 or not shutil.which("apt-get"):
                raise Unavailable(f"{package} is not installed, and only root may install it")
            _run(["apt-get", "install", "-y", "--no-install-recommends", package], f"apt-get install {package}")
        found = shutil.which(package, path=search)
        if not found:
            raise Unavailable(f"the package {package} brought no program of that name")
        return Path(found)

    return prepare


def heavy_packages(report: str) -> list[str]:
    """Names in pip's dry-run report that must not be installed."""
    names = [entry["metadata"]["name"].lower() for entry in json.loads(report)["install"]]
    return sorted(name for name in names if HEAVY.match(name))


def pip(requirement: str) -> Callable[[Path], Path]:
    """A Python package in a virtual environment of its own; gives the environment's bin folder."""

    def prepare(cache: Path) -> Path:
        home = cache / re.sub(r"\[.*\]", "", requirement).replace("==", "-")
        done = home / ".installed"
        if not done.exists():
            _run([sys.executable, "-m", "venv", str(home)], "venv")
            tool = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            heavy = heavy_packages(_run([*tool, "--dry-run", "--report", "-", requirement], f"pip {requirement}"))
            if heavy:
                raise Unavailable(f"{requirement} would bring {', '.join(heavy[:3])}")
            _run([*tool, requirement], f"pip {requirement}")
            done.touch()
        return home / "bin"

    return prepare


def npm(package: str, version: str, program: str) -> Callable[[Path], Path]:
    """A Node package, without running install scripts; gives the path of its program."""

    def prepare(cache: Path) -> Path:
        home = cache / f"{package.rsplit('/', maxsplit=1)[-1]}-{version}"
        done = home / ".installed"
        if not done.exists():
            if not shutil.which("node"):
                raise Unavailable("node is not installed")
            home.mkdir(parents=True, exist_ok=True)
            options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(home)]
            _run(["npm", "install", *options, f"{package}@{version}"], f"npm {package}")
            done.touch()
        return home / "node_modules" / package / program

    return prepare
