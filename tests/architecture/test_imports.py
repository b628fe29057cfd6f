"""The planes and layers of docs/architecture.md are what the code imports."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_module_imports_upwards_or_across_the_planes() -> None:
    command = [sys.executable, str(Path(sysconfig.get_path("scripts")) / "lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    print(result.stdout, result.stderr)
    assert result.returncode == 0, result.stdout + result.stderr
