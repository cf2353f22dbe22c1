"""`iff-detectron2 synth`: write the MovingShapes set."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

HELP = "write MovingShapes, a generated video set in the layout of ImageNet VID"
EXAMPLE = "iff-detectron2 synth datasets/moving_shapes"


def parse_size(text: str) -> tuple[int, int]:
    """Read a frame size such as `224x160`."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 224x160, got {text!r}")
    return int(match[1]), int(match[2])


# Metavariable and reader of the options that are no whole numbers.
_READ: dict[str, tuple[str, Callable]] = {"size": ("WxH", parse_size), "severity": ("X", float)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb, made from the generator's options."""
    from iff_detectron2.data.moving_shapes import MovingShapesOptions

    parser.add_argument(
        "out", type=Path, metavar="OUT", help="dataset root, as datasets/moving_shapes"
    )
    for option in fields(MovingShapesOptions):
        metavar, read = _READ.get(option.name, ("N", int))
        default = option.default
        shown = "x".join(map(str, default)) if isinstance(default, tuple) else default
        parser.add_argument(
            option.metadata["flag"],
            dest=option.name,
            type=read,
            default=default,
            metavar=metavar,
            help=option.metadata["help"] + (f" (default: {shown})" if default is not None else ""),
        )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: the usable cores)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a set made with other options"
    )


def run(args: argparse.Namespace) -> int:
    """Generate the set, or say that it is there already."""
    from iff_detectron2.data.moving_shapes import (
        MovingShapesOptions,
        find_complete,
        generate_moving_shapes,
    )

    chosen = {option.name: getattr(args, option.name) for option in fields(MovingShapesOptions)}
    try:
        if find_complete(args.out, MovingShapesOptions(**chosen)) is not None:
            print(f"{args.out} already holds this MovingShapes set; nothing to do.")
            return 0
        started = time.monotonic()
        marker = generate_moving_shapes(
            args.out, **chosen, num_workers=args.workers, overwrite=args.overwrite
        )
    except (ValueError, OSError) as error:
        hint = " (--overwrite)" if "ask to overwrite" in str(error) else ""
        print(f"iff-detectron2 synth: {error}{hint}", file=sys.stderr)
        return 2
    for split, counts in marker["splits"].items():
        share = counts["deteriorated_boxes"] / max(counts["boxes"], 1)
        print(
            f"{split}: {counts['videos']} videos, {counts['frames']} frames, "
            f"{counts['boxes']} boxes ({share:.0%} deteriorated)"
        )
    print(f"Written to {args.out} in {time.monotonic() - started:.0f} s.")
    print(f"A picture of it: {args.out / 'contact_sheet.png'}")
    return 0
