"""Training, evaluation and inference loops."""

from iff_detectron2.utils import needs_detectron2  # noqa: F401

from . import zoo_weights  # noqa: F401  lets Detectron2 find iff:// addresses
from .checkpoint import VideoCheckpointer
from .defaults import load_config, setup
from .hooks import AlignmentLossHook
from .lazy_config import load_lazy_config
from .main import launch_from_command_line
from .multi_predictor import MultiVideoPredictor, VideoError
from .postprocess import SeqNMSPostprocess, build_postprocess
from .predictor import VideoPredictor
from .trainer import VideoTrainer

__all__ = [
    "AlignmentLossHook",
    "MultiVideoPredictor",
    "SeqNMSPostprocess",
    "VideoCheckpointer",
    "VideoError",
    "VideoPredictor",
    "VideoTrainer",
    "build_postprocess",
    "launch_from_command_line",
    "load_config",
    "load_lazy_config",
    "setup",
]
