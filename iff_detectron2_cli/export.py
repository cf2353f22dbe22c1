"""`iff-detectron2 export`: a detector as programs that run without Detectron2."""

from __future__ import annotations

import argparse
from pathlib import Path

from .config import add_config_arguments
from .synth import parse_size

HELP = "write a detector as programs for inference without Detectron2"
EXAMPLE = (
    "iff-detectron2 export --config-file MovingShapes/iff_net_C --weights model_final.pth "
    "--output output/exported"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_config_arguments(parser)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/export"),
        help="folder for the programs and their manifest (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="WxH",
        help="size of the video's frames: fixes all shapes and the number of reference frames, for "
        "runtimes that want this (default: any)",
    )
    parser.add_argument("--no-onnx", action="store_true", help="write no ONNX, which takes longest")
    parser.add_argument(
        "--aoti",
        action="store_true",
        help="compile packages of AOTInductor, too; needs a C++ compiler",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an export that the folder holds"
    )


def run(args: argparse.Namespace) -> int:
    """Export; 1 if a package that was asked for could not be compiled."""
    from iff_detectron2.engine.defaults import read_config
    from iff_detectron2.export import ExportOptions, export_detector

    size = None if args.size is None else (args.size[1], args.size[0])
    options = ExportOptions(size, not args.no_onnx, args.aoti, args.overwrite)
    manifest = export_detector(read_config(args), args.output, options)
    print(f'run it: iff_detectron2.deploy.VideoRunner("{args.output}"), see docs/deploy.md')
    return int(any(name.endswith(".aoti.pt2") for name in manifest.left_out))
