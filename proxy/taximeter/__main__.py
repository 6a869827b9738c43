"""`python -m taximeter` is the command `taximeter`."""

from __future__ import annotations

import sys

from taximeter.cli import main

if __name__ == "__main__":
    sys.exit(main())
