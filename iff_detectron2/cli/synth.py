"""`iff-detectron2 synth`: write the MovingShapes set."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

from iff_detectron2.data.moving_shapes import (
    MovingShapesOptions,
    find_complete,
    generate_moving_shapes,
)

HELP = "write MovingShapes, a generated video set in the layout of ImageNet VID"

_DEFAULTS = MovingShapesOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="dataset root, as datasets/moving_shapes"
    )
    parser.add_argument("--seed", type=int, default=_DEFAULTS.seed, help="default: %(default)s")
    parser.add_argument(
        "--train-videos",
        type=int,
        default=_DEFAULTS.num_train_videos,
        metavar="N",
        help="videos of the train split (default: %(default)s)",
    )
    parser.add_argument(
        "--val-videos",
        type=int,
        default=_DEFAULTS.num_val_videos,
        metavar="N",
        help="videos of the val split (default: %(default)s)",
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=_DEFAULTS.num_frames,
        metavar="N",
        help="frames of a train video (default: %(default)s)",
    )
    parser.add_argument(
        "--val-frames",
        type=int,
        metavar="N",
        help="frames of a val video (default: a quarter more than of a train video)",
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        default=_DEFAULTS.size,
        metavar="WxH",
        help=f"frame size in pixels (default: {_DEFAULTS.size[0]}x{_DEFAULTS.size[1]})",
    )
    parser.add_argument(
        "--objects",
        type=int,
        default=_DEFAULTS.max_objects,
        metavar="N",
        help="most objects of a video (default: %(default)s)",
    )
    parser.add_argument(
        "--severity",
        type=float,
        default=_DEFAULTS.severity,
        help="how much frames deteriorate, 0 to 2 (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: the usable cores)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a set made with other options"
    )


def parse_size(text: str) -> tuple[int, int]:
    """Read a frame size such as `224x160`."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 224x160, got {text!r}")
    return int(match[1]), int(match[2])


def run(args: argparse.Namespace) -> int:
    """Generate the set, or say that it is there already."""
    chosen: dict[str, Any] = {
        "seed": args.seed,
        "num_train_videos": args.train_videos,
        "num_val_videos": args.val_videos,
        "num_frames": args.frames,
        "num_val_frames": args.val_frames,
        "size": args.size,
        "max_objects": args.objects,
        "severity": args.severity,
    }
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
