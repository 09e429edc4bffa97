"""`python -m mplinalg` is the command `mplinalg`."""

import sys

try:
    from .bench.cli import main
except KeyboardInterrupt:
    print("error: interrupted", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
