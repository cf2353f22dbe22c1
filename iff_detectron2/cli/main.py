"""`python -m iff_detectron2.cli.main` is the command `iff-detectron2`."""

import sys

from iff_detectron2_cli.main import VERBS, main

__all__ = ["VERBS", "main"]

if __name__ == "__main__":
    sys.exit(main())
