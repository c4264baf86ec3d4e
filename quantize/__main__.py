"""`python -m quantize`."""

from __future__ import annotations

import sys

from quantize.cli import main

if __name__ == "__main__":
    sys.exit(main())
