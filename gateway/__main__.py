"""`python -m gateway`: the data plane's own commands; `tunegate` runs them."""

import gc
import sys

gc.disable()  # imports leave nothing to collect, and looking for it takes a tenth of their time
from gateway.commands import main  # noqa: E402

gc.enable()

if __name__ == "__main__":
    sys.exit(main())
