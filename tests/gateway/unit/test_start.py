"""A gateway by itself does not load at its start what only some need: docs/bench/what-paid.md says what that saves."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["aiohttp", "cryptography.x509"])
def test_a_gateway_by_itself_does_not_load_it(package):
    code = f"import gateway.commands, sys; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
