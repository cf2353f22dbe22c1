"""Training, evaluation and inference loops."""

from .checkpoint import VideoCheckpointer
from .hooks import AlignmentLossHook
from .setup import load_config, setup
from .trainer import VideoTrainer

__all__ = ["AlignmentLossHook", "VideoCheckpointer", "VideoTrainer", "load_config", "setup"]
