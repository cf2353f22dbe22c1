"""Runs a video detector from the files of `iff-detectron2 export`, without Detectron2."""

from .manifest import Manifest, read_manifest
from .runner import VideoRunner

__all__ = ["Manifest", "VideoRunner", "read_manifest"]
