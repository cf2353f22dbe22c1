"""`iff-detectron2 adapt`: a trained detector and raw video in, a temporal detector out."""

from __future__ import annotations

import argparse
from pathlib import Path

from .config import add_config_arguments

HELP = "make a trained detector temporal by raw video, without a label"
EXAMPLE = (
    "iff-detectron2 adapt --config-file COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml "
    "--input videos/ --output output/adapted"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_config_arguments(parser)
    parser.add_argument(
        "--input",
        required=True,
        nargs="+",
        metavar="VIDEO",
        help="video files, folders of frames, or folders of these; the end of each is held out",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/adapt"),
        help="folder for checkpoints and the config to use; a run that ended early goes on there "
        "(default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Adapt, and say whether it helped."""
    from iff_detectron2.inference.adapt import adapt_detector

    adapt_detector(args)
    return 0
