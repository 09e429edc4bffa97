"""`python -m mplinalg` is the command `mplinalg`."""

import sys

from .bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
