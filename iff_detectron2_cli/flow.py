"""`iff-detectron2 flow`: does alignment work on this video?"""

from __future__ import annotations

import argparse
from contextlib import closing
from itertools import islice
from pathlib import Path

from .config import add_config_arguments

HELP = "show how the neighbours of a frame are aligned with it, and measure whether it helps"
EXAMPLE = (
    "iff-detectron2 flow --config-file MovingShapes/iff_net_C --weights "
    "output/demo/training/model_final.pth --input my_video.mp4 --frame 20"
)

# Rounding of a weighted sum of float32.
TOLERANCE = 1e-5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_config_arguments(parser)
    parser.add_argument("--input", required=True, help="video file or folder of frames")
    parser.add_argument("--frame", type=int, required=True, help="the key frame, from 0")
    parser.add_argument(
        "--rows",
        type=int,
        default=6,
        help="reference frames to show, spread evenly (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/alignment.png"),
        help="picture to write (default: %(default)s)",
    )
    parser.add_argument(
        "--draw-threshold",
        type=float,
        default=0.5,
        help="least score that is drawn (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Draw the panel and print the errors; 1 if the self-check fails."""
    import cv2

    from iff_detectron2.engine.alignment_quality import AlignmentQuality, advice
    from iff_detectron2.engine.defaults import read_config
    from iff_detectron2.engine.frame_detector import load_model
    from iff_detectron2.engine.window_alignment import (
        align_window,
        rows_of,
        warp_errors,
        window_sample,
        zero_flow_error,
    )
    from iff_detectron2.inference.known_data import known_classes
    from iff_detectron2.structures import TemporalWindow
    from iff_detectron2.video.sources import CameraSource, bridged, open_source
    from iff_detectron2.visualization.panel import alignment_panel

    source = open_source(args.input)
    if isinstance(source, CameraSource):
        raise ValueError("a camera has no frame to go back to; record a video first")
    cfg = read_config(args)
    window = TemporalWindow.from_config(cfg)
    if not window.num_refs:
        raise ValueError("TEST.VIDEO.NUM_REFS is 0: there is no neighbour to show")
    if args.rows < 1 or args.frame < 0:
        raise ValueError(
            f"--frame counts from 0 and --rows from 1, got {args.frame} and {args.rows}"
        )
    length = source.length() or 0
    if args.frame >= length:
        raise ValueError(
            f"{args.input} has {length} frames, numbered from 0: there is no frame {args.frame}"
        )
    first = max(args.frame + min(window.offsets), 0)
    count = args.frame + window.lookahead + 1 - first
    with closing(source.read(first)) as raw:
        frames = [frame for frame, _ in islice(bridged(raw), count)]
    key = args.frame - first
    if len(frames) == 1:
        raise ValueError(f"frame {args.frame} of {args.input} has no neighbour")

    model = load_model(cfg)
    sample = window_sample(cfg, frames, key)
    alignment = align_window(model, sample)
    print("offset   flow px   features before -> after   pixels before -> after   weight")
    errors = warp_errors(alignment, sample)
    quality = AlignmentQuality(residual=[(e.feature_before, e.feature_after) for e in errors])
    for error in errors:
        print(
            f"{error.offset:+6d}   {error.flow:7.2f}   "
            f"{error.feature_before:15.4f} -> {error.feature_after:.4f}   "
            f"{error.pixel_before:13.2f} -> {error.pixel_after:5.2f}   {error.weight:6.4f}"
        )
    print(
        "features: mean |difference| to the key frame over its mean |feature|; pixels: grey levels "
        "of 255, a cell the mean of its pixels; both where the flow stays in the frame"
    )
    warp, fused = zero_flow_error(alignment)
    passed = warp == 0 and fused <= TOLERANCE
    print(
        f"self-check, zero flow is the identity: warp differs by {warp:g}, the fusion of copies by "
        f"{fused:.1e}: {'passed' if passed else 'FAILED'}"
    )

    offsets = sorted(set(sample["ref_offsets"]) - {0})
    step = max(len(offsets) - 1, 1) / max(args.rows - 1, 1)
    shown = sorted({offsets[min(round(k * step), len(offsets) - 1)] for k in range(args.rows)})
    rows = rows_of(alignment, model, sample, shown, name=f"{source.name}  {args.frame}")
    panel = alignment_panel(rows, known_classes(cfg).names, score_threshold=args.draw_threshold)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(args.output), panel):
        raise OSError(f"cannot write {args.output}")
    print(f"panel: {args.output}")
    print(advice(quality))
    return 0 if passed else 1
