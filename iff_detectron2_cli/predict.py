"""`iff-detectron2 predict`: video in, boxes out."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from types import FrameType

from .config import add_config_arguments

HELP = "detect in a video file, a folder of frames or a camera"
EXAMPLE = (
    "iff-detectron2 predict --config-file COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml "
    "--input my_video.mp4 --tracks"
)
FORMATS = ("csv", "mot")
CODECS = ("vp8", "vp9", "h264", "mpeg4", "mjpeg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_config_arguments(parser)
    parser.add_argument(
        "--input", required=True, help="video file, folder of frames, or number of a camera"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/predict"),
        help="folder for the results; a run that ended early goes on there (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        action="append",
        choices=FORMATS,
        default=[],
        help="written beside predictions.json; may be given twice",
    )
    parser.add_argument(
        "--tracks",
        action="store_true",
        help="join the detections to tracks by Seq-NMS+, and write tracks.csv; needs no training "
        "for it (TEST.VIDEO.POSTPROCESS chooses plain Seq-NMS)",
    )
    parser.add_argument("--no-video", action="store_true", help="draw no annotated video")
    parser.add_argument(
        "--draw-threshold",
        type=float,
        help="least score that is drawn (default: that of the best F1, where an evaluation of the "
        "weights has left its operating_point.json; else 0.5)",
    )
    parser.add_argument("--hide-scores", action="store_true", help="draw labels without scores")
    parser.add_argument(
        "--codec",
        choices=CODECS,
        default=CODECS[0],
        help="of the annotated video: vp8 and vp9 in .webm play in browsers, as does h264 in .mp4 "
        "where OpenCV has its encoder; mpeg4 and mjpeg are larger, quick to write and for players "
        "(default: %(default)s)",
    )
    parser.add_argument("--fps", type=float, help="frames a second, instead of the input's")
    parser.add_argument("--restart", action="store_true", help="begin anew in the output folder")


class Interrupt:
    """Turns Ctrl-C into a wish to end after the frame at hand; the second one ends at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("\nending after this frame; once more to end at once", flush=True)


def run(args: argparse.Namespace) -> int:
    """Detect in the video; 130 if it was ended by Ctrl-C."""
    from iff_detectron2.engine import VideoPredictor
    from iff_detectron2.engine.defaults import read_config
    from iff_detectron2.inference.known_data import operating_threshold
    from iff_detectron2.inference.output import DrawingStyle
    from iff_detectron2.inference.run import VideoRun, predict_video
    from iff_detectron2.video.sources import open_source

    formats = list(args.format)
    if args.tracks:
        formats += {"csv"} - {*formats}
    source = open_source(args.input, args.fps)
    cfg = read_config(args)
    if args.tracks and not cfg.TEST.VIDEO.POSTPROCESS:
        cfg.defrost()
        cfg.TEST.VIDEO.POSTPROCESS = "seq_nms_plus"
        cfg.freeze()
    predictor = VideoPredictor(cfg)
    style = None
    if not args.no_video:
        threshold = args.draw_threshold
        if threshold is None:
            threshold, why = operating_threshold(cfg)
            print(why)
        style = DrawingStyle(threshold, not args.hide_scores, args.codec)
    plan = VideoRun(args.output, formats, style, restart=args.restart)
    with Interrupt() as interrupt:
        done = predict_video(cfg, predictor, source, plan, stop=lambda: interrupt.asked)
    if not done:
        print("ended early; the same command goes on from here")
        return 130
    return 0
