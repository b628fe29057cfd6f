"""A gateway by itself does not load at its start what only some need: docs/bench/what-paid.md says what that saves."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["aiohttp", "cryptography.x509"])
def test_it_is_loaded_by_whoever_needs_it(package):
    code = f"import gateway.commands, sys; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
