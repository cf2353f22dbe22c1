"""Importing this says how to install Detectron2, where it is missing."""

from importlib.util import find_spec

if find_spec("detectron2") is None:
    raise ImportError(
        "iff_detectron2 needs detectron2, which is not installed. Run `make setup` in a checkout "
        "of iff_detectron2, or install Detectron2 from its repository after torch: "
        "`pip install --no-build-isolation <path of a detectron2 checkout>`"
    )
