"""ImageNet VID and DET in the layout of ILSVRC2015, and every set in that layout."""

from .vid import IMAGENET_VID_CLASSES, register_imagenet_vid

__all__ = ["IMAGENET_VID_CLASSES", "register_imagenet_vid"]
