"""`python -m iff_detectron2_cli` is the command `iff-detectron2`."""

import sys

from .main import main

sys.exit(main())
