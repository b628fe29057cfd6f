"""`python -m control`: the `tunegate` command, for where its script is not on the path."""

from __future__ import annotations

import sys

from control.cli import main

if __name__ == "__main__":
    sys.exit(main())
