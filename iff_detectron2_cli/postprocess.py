"""The verb `postprocess`: Seq-NMS on saved predictions, without the model."""

from __future__ import annotations

import argparse
from pathlib import Path

from .config import add_import_argument
from .dataset_name import dataset_name

HELP = "Seq-NMS or Seq-NMS+ on saved predictions: new scores, and tracks"
EXAMPLE = "iff-detectron2 postprocess predictions.json rescored.json --tracks tracks.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="PREDICTIONS",
        help="*.json: COCO-style results with video_id and frame_index, frames in order; any "
        "other name: FGFA's text form, which needs --dataset",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="*.json: where to write the results")
    parser.add_argument(
        "--tracks",
        type=Path,
        metavar="PATH",
        help="also write what is on a track: *.json, *.csv, *.txt (MOTChallenge, one video) or a "
        "folder (MOTChallenge, one file per video)",
    )
    parser.add_argument(
        "--track-score",
        type=float,
        default=0.0,
        metavar="SCORE",
        help="write tracks whose mean score is at least this (default: all)",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="a registered dataset, or NAME=FORMAT:PATH[@PART] as in DATASETS.REGISTER: frames "
        "and categories are checked against it, and tracks get the names of classes",
    )
    parser.add_argument(
        "--variant",
        choices=("seq_nms", "seq_nms_plus"),
        default="seq_nms_plus",
        help="seq_nms wants predictions without NMS and limit a frame (default: %(default)s)",
    )
    parser.add_argument(
        "--rescore",
        choices=("mean", "max", "mean_max"),
        help="new score of a path (default: mean; for seq_nms_plus mean_max, half of each)",
    )
    parser.add_argument(
        "--link-iou", type=float, default=0.5, help="least IoU of a link (default: %(default)s)"
    )
    parser.add_argument(
        "--nms-iou", type=float, default=0.3, help="IoU of suppression (default: %(default)s)"
    )
    parser.add_argument(
        "--min-path-score",
        type=float,
        default=1e-2,
        help="least sum of a path's scores (default: %(default)s)",
    )
    parser.add_argument(
        "--all-frames",
        action="store_true",
        help="end with an error if a frame within a video has no detection (default: paths end "
        "at such frames)",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="threads (default: the usable cores)"
    )
    add_import_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Rescore video by video, and write the results and the tracks."""
    from iff_detectron2.evaluation import EvaluationDataset
    from iff_detectron2.inference import rescore_predictions
    from iff_detectron2.postprocessing import SeqNMSOptions, check_tracks_path, write_tracks
    from iff_detectron2.predictions import count_tracks, on_tracks

    # What is wrong with the arguments is told before anything is read.
    if not args.predictions.is_file():
        raise FileNotFoundError(f"there is no file {args.predictions}")
    if args.out.suffix.lower() != ".json":
        raise ValueError(f"OUT is {args.out}; results are written as .json")
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers is {args.workers}; it must be at least 1")
    if args.tracks is not None:
        check_tracks_path(args.tracks)
    options = SeqNMSOptions(
        args.variant, args.link_iou, args.nms_iou, args.rescore, args.min_path_score
    )
    dataset = None
    if args.dataset is not None:
        dataset = EvaluationDataset.load(dataset_name(args.dataset, args.imports), "devkit")
    done = rescore_predictions(
        args.predictions,
        args.out,
        options,
        dataset=dataset,
        all_frames=args.all_frames,
        keep=args.tracks is not None,
        num_workers=args.workers,
        progress=True,
    )
    if done.frames_without:
        print(
            f"Note: {done.frames_without} frames within videos have no detection, first "
            f"{done.first_without}. Paths end there."
        )
    print(
        f"{done.num_videos} videos, {done.num_detections} detections: {done.num_kept} stay, "
        f"{done.num_tracks} tracks. Written to {args.out}."
    )
    if args.tracks is not None:
        found = on_tracks(done.detections, done.frames, args.track_score)
        paths = write_tracks(args.tracks, found, done.frames, class_names=done.class_names)
        place = paths[0] if len(paths) == 1 else args.tracks
        print(f"{count_tracks(found, done.frames)} tracks written to {place}.")
    return 0
