"""`python -m castore` is the `castore` command."""

from __future__ import annotations

import sys

from castore.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
