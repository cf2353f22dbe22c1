"""Training, evaluation and inference loops."""

from .checkpoint import VideoCheckpointer
from .hooks import AlignmentLossHook
from .main import launch_from_command_line
from .postprocess import SeqNMSPostprocess, build_postprocess
from .predictor import VideoPredictor
from .rescore_predictions import RescoredFile, rescore_predictions
from .setup import load_config, setup
from .trainer import VideoTrainer

__all__ = [
    "AlignmentLossHook",
    "RescoredFile",
    "SeqNMSPostprocess",
    "VideoCheckpointer",
    "VideoPredictor",
    "VideoTrainer",
    "build_postprocess",
    "launch_from_command_line",
    "load_config",
    "rescore_predictions",
    "setup",
]
