"""`python -m gateway`: the data plane's own commands; `tunegate` runs them."""

import sys

from gateway.commands import main

if __name__ == "__main__":
    sys.exit(main())
