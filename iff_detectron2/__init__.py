"""Video object detection for Detectron2: in-network feature flow (IFF-Net).

Importing the package registers its models and datasets with Detectron2. It reads no file and does
not touch a GPU.
"""

from importlib.util import find_spec

if find_spec("detectron2") is None:
    raise ImportError(
        "iff_detectron2 needs detectron2, which is not installed. Run `make setup` in a checkout "
        "of iff_detectron2, or install Detectron2 from its repository after torch: "
        "`pip install --no-build-isolation <path of a detectron2 checkout>`"
    )

from . import data, modeling
from .config import add_iff_config

__version__ = "0.1.0"
__all__ = ["__version__", "add_iff_config", "data", "modeling"]
