"""The verb `train`: what train_net.py does, from an installed package."""

from __future__ import annotations

import argparse

from .config import add_config_arguments

HELP = "train a video detector, or test it with --eval-only"
EXAMPLE = "iff-detectron2 train --config-file MovingShapes/iff_net_C OUTPUT_DIR output/mine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of Detectron2's training scripts, under Detectron2's names."""
    add_config_arguments(parser)
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR"
    )
    parser.add_argument("--eval-only", action="store_true", help="test MODEL.WEIGHTS, do not train")
    parser.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        metavar="N",
        help="GPUs of a machine, or CPU processes where there is none (default: %(default)s)",
    )
    parser.add_argument(
        "--num-machines",
        type=int,
        default=1,
        metavar="N",
        help="machines that take part (default: %(default)s)",
    )
    parser.add_argument(
        "--machine-rank",
        type=int,
        default=0,
        metavar="K",
        help="number of this machine, from 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="where processes meet, as tcp://HOST:PORT (default: a free port of this machine)",
    )


def run(args: argparse.Namespace) -> int:
    """Train or test."""
    from iff_detectron2.engine.main import launch_training

    launch_training(args)
    return 0
