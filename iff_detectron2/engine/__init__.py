"""Training, evaluation and inference loops."""

from .checkpoint import VideoCheckpointer
from .hooks import AlignmentLossHook
from .predictor import VideoPredictor
from .setup import load_config, setup
from .trainer import VideoTrainer

__all__ = [
    "AlignmentLossHook",
    "VideoCheckpointer",
    "VideoPredictor",
    "VideoTrainer",
    "load_config",
    "setup",
]
