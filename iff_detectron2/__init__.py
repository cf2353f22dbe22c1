"""Video object detection for Detectron2: in-network feature flow (IFF-Net).

Importing the package registers its models and datasets with Detectron2. It reads no file and does
not touch a GPU. Without Detectron2 it can be imported for `iff_detectron2.deploy` and
`iff_detectron2.layers`; what needs Detectron2 says how to install it.
"""

import warnings
from importlib.util import find_spec

if find_spec("detectron2") is not None:
    with warnings.catch_warnings():
        # fvcore, of Detectron2, compiles its losses by it, which a user can do nothing about.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
        from . import data, modeling
        from .config import add_iff_config
else:

    def __getattr__(name: str) -> object:
        if name in __all__:
            from .utils import needs_detectron2

            return needs_detectron2  # never: it raises
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"
__all__ = ["__version__", "add_iff_config", "data", "modeling"]
