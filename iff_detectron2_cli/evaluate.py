"""The verb `evaluate`: saved predictions against a dataset, without the model."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from .config import add_import_argument
from .dataset_name import dataset_name

HELP = "evaluate saved predictions (COCO-style JSON or FGFA's text) against a dataset"
EXAMPLE = "iff-detectron2 evaluate predictions.json --dataset moving_shapes_val --report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="PREDICTIONS",
        help="*.json: COCO-style results; any other name: FGFA's text form",
    )
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="NAME",
        help="a registered dataset, or NAME=FORMAT:PATH[@PART] as in DATASETS.REGISTER",
    )
    parser.add_argument(
        "--protocol",
        choices=("fgfa", "devkit", "coco"),
        default="fgfa",
        help="whose rules (default: %(default)s)",
    )
    parser.add_argument(
        "--area-ranges",
        action="store_true",
        help="also report boxes of 0-50^2, 50^2-150^2 and over 150^2 pixels",
    )
    parser.add_argument(
        "--motion-iou-file",
        type=Path,
        metavar="MAT",
        help="FGFA's .mat for ImageNet VID val (default: motion IoU from track ids)",
    )
    parser.add_argument(
        "--any-order",
        action="store_true",
        help="accept a JSON whose frames are not in the order of their videos",
    )
    parser.add_argument(
        "--all-frames",
        action="store_true",
        help="end with an error if a frame has no detection (default: count such frames)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to write (default: <PREDICTIONS without extension>-<protocol>)",
    )
    parser.add_argument(
        "--report", action="store_true", help="also write report.html and its pictures"
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="PREDICTIONS",
        help="predictions of a second run, side by side with the first in the report",
    )
    parser.add_argument(
        "--names",
        nargs=2,
        metavar=("FIRST", "SECOND"),
        help="what the runs are called in the report (default: their paths)",
    )
    add_import_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write results.json and results.txt, and the report if asked."""
    from iff_detectron2.evaluation import EvaluationDataset, evaluate_detections, format_result
    from iff_detectron2.evaluation.tables import save_result

    if (args.against or args.names) and not args.report:
        raise ValueError("--against and --names are for the report; add --report")
    for path in filter(None, (args.predictions, args.against)):
        if not path.is_file():  # before the dataset is read
            raise FileNotFoundError(f"there is no file {path}")
    name = dataset_name(args.dataset, args.imports)
    dataset = EvaluationDataset.load(name, args.protocol, args.motion_iou_file)
    detections = _load(dataset, args.predictions, args)
    result = evaluate_detections(
        dataset, detections, args.protocol, area_ranges=args.area_ranges, progress=True
    )
    folder = args.output or args.predictions.with_name(f"{args.predictions.stem}-{args.protocol}")
    save_result(result, folder, name)
    print(format_result(result, name))
    print(f"Written: {folder / 'results.json'}, {folder / 'results.txt'}")
    if args.report:
        print(f"Report: {_write_report(dataset, detections, result, folder, args)}")
    return 0


def _write_report(dataset, detections, result, folder: Path, args: argparse.Namespace) -> Path:
    """Write the report of one run, or of two side by side."""
    from iff_detectron2.evaluation.report import provenance, score_run, write_report

    paths = [path for path in (args.predictions, args.against) if path is not None]
    names = args.names or [str(path) for path in paths]
    runs = [score_run(names[0], dataset, detections, result=result, progress=True)]
    if args.against is not None:
        other = _load(dataset, args.against, args)
        runs.append(
            score_run(
                names[1],
                dataset,
                other,
                args.protocol,
                area_ranges=args.area_ranges,
                progress=True,
            )
        )
    made = provenance(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), paths)
    return write_report(folder, dataset, runs, made=made, progress=True)


def _load(dataset, path: Path, args: argparse.Namespace):
    """Read predictions and say, or refuse, that frames have none."""
    from iff_detectron2.evaluation import load_detections

    detections = load_detections(dataset, path, any_order=args.any_order, progress=True)
    missing = detections.frames_without(len(dataset.frames))
    if missing.size:
        first = dataset.frames[missing[0]]
        place = f"image_id {first['image_id']!r}"
        if "video_id" in first and "frame_index" in first:
            place += f", frame {first['frame_index']} of video {first['video_id']!r}"
        message = (
            f"{path}: {missing.size} of {len(dataset.frames)} frames of {dataset.name} have no "
            f"detection, first {place}"
        )
        if args.all_frames:
            raise ValueError(f"{message}; without --all-frames they count as empty")
        print(f"Note: {message}. They count as frames in which nothing was detected.")
    return detections
