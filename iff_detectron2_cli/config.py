"""The arguments of the verbs that take a detector."""

from __future__ import annotations

import argparse


def add_import_argument(parser: argparse.ArgumentParser) -> None:
    """Add --import, for classes, keys and datasets of a project that is not ours."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE[:FUNCTION]",
        help="import a project's module first, which registers its classes and datasets; the "
        "function, as in my_project:add_config, adds its keys to the config; may be repeated",
    )


def add_detector_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the arguments that choose a detector, which a verb may do without unless `required`."""
    parser.add_argument(
        "--config-file",
        required=required,
        metavar="CONFIG",
        help="file; or a config of ours, as MovingShapes/iff_net_C; or of Detectron2's model zoo, "
        "as COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml, with the zoo's weights",
    )
    parser.add_argument("--weights", help="checkpoint, instead of the config's MODEL.WEIGHTS")
    add_import_argument(parser)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a detector and change its config."""
    add_detector_arguments(parser)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the config")
