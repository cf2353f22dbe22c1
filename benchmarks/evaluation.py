"""Time and memory of the evaluation on made-up data of the size of ImageNet VID val.

    python benchmarks/evaluation.py --scale 0.1                 # a tenth of VID val
    python benchmarks/evaluation.py                             # 176126 frames x 100 detections
    python benchmarks/evaluation.py --scale 0.01 --coco         # pycocotools on the same data
    python benchmarks/evaluation.py --scale 0.1 --files --report  # saved files and the HTML page

The data is random for a fixed seed: tracks that drift, detections around them and elsewhere.
"""

from __future__ import annotations

import argparse
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from iff_detectron2.evaluation import (
    Detections,
    EvaluationDataset,
    GroundTruth,
    evaluate_detections,
    format_result,
    read_predictions,
)
from iff_detectron2.evaluation.report import score_run, write_report
from iff_detectron2.predictions import write_predictions_json, write_predictions_text
from iff_detectron2.structures.boxes import motion_iou

VID_VAL_FRAMES = 176_126
VIDEO_LENGTH = 317  # mean of VID val
NUM_CLASSES = 30
MAX_TRACKS = 3  # with the drop-outs below about VID val's 1.55 boxes a frame


def make_ground_truth(
    num_frames: int, generator: np.random.Generator
) -> tuple[GroundTruth, np.ndarray, float]:
    """Draw tracks; also return the box each frame's detections are drawn around, and the time."""
    videos = np.arange(num_frames) // VIDEO_LENGTH
    num_videos = int(videos[-1]) + 1
    frame_indices = np.arange(num_frames) % VIDEO_LENGTH
    tracks_in_video = generator.integers(1, MAX_TRACKS + 1, size=num_videos)
    rows, boxes, classes, tracks = [], [], [], []
    for track in range(MAX_TRACKS):
        speed = generator.exponential(1.5, size=(num_videos, 2))[videos]
        start = generator.uniform(0, 400, size=(num_videos, 2))[videos]
        size = generator.uniform(30, 300, size=(num_videos, 2))[videos]
        corner = start + speed * frame_indices[:, None]
        corner += generator.normal(0, 1.0, size=corner.shape)
        present = (track < tracks_in_video[videos]) & (generator.random(num_frames) < 0.78)
        here = np.flatnonzero(present)
        rows.append(here)
        boxes.append(np.concatenate([corner, corner + size], axis=1)[here])
        classes.append(generator.integers(0, NUM_CLASSES, size=num_videos)[videos][here])
        tracks.append(np.full(len(here), track))
    frames, all_boxes = np.concatenate(rows), np.concatenate(boxes)
    start_time = time.perf_counter()
    motion = motion_iou(all_boxes, videos[frames], frame_indices[frames], np.concatenate(tracks))
    motion_seconds = time.perf_counter() - start_time
    ground_truth = GroundTruth(
        num_frames=num_frames,
        class_names=[f"class{i:02d}" for i in range(NUM_CLASSES)],
        frames=frames,
        boxes=all_boxes,
        classes=np.concatenate(classes),
        ignored=np.zeros(len(frames), dtype=bool),
        motion_iou=motion,
    )
    first_box = np.full(num_frames, -1)
    first_box[frames] = np.arange(len(frames))
    return ground_truth, first_box, motion_seconds


def make_detections(
    ground_truth: GroundTruth,
    first_box: np.ndarray,
    per_frame: int,
    generator: np.random.Generator,
) -> Detections:
    """Draw detections, a fifth of them around a box of the frame and mostly of its class."""
    num_frames = ground_truth.num_frames
    boxes = np.empty((num_frames, per_frame, 4), dtype=np.float32)
    classes = generator.integers(0, NUM_CLASSES, size=(num_frames, per_frame), dtype=np.int32)
    scores = generator.random((num_frames, per_frame), dtype=np.float32) ** 4
    boxes[..., :2] = generator.random((num_frames, per_frame, 2), dtype=np.float32) * 900
    boxes[..., 2:] = boxes[..., :2] + 10
    boxes[..., 2:] += generator.random((num_frames, per_frame, 2), dtype=np.float32) * 300
    near = max(1, per_frame // 5)
    has_box = np.flatnonzero(first_box >= 0)
    around = ground_truth.boxes[first_box[has_box]].astype(np.float32)[:, None]
    # Less than half of the smallest box, so that no width turns negative.
    noise = generator.random((len(has_box), near, 4), dtype=np.float32) * 20 - 10
    boxes[has_box, :near] = around + noise
    classes[has_box, : near // 2 + 1] = ground_truth.classes[first_box[has_box], None]
    return Detections(
        frames=np.repeat(np.arange(num_frames, dtype=np.int32), per_frame),
        boxes=boxes.reshape(-1, 4),
        scores=scores.reshape(-1),
        classes=classes.reshape(-1),
    )


def peak_gib() -> float:
    """Peak memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(what: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function, print its times and the peak memory so far, and return its result."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = function(*args, **options)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = peak_gib()
    print(
        f"{what}: {seconds:.2f} s (CPU {cpu_seconds:.2f} s), peak {peak:.2f} GiB so far", flush=True
    )
    return result


def measure_files(dataset: EvaluationDataset, detections: Detections, folder: Path) -> None:
    """Write and read both forms of saved predictions; each must give what was written."""
    frames, ids = dataset.frames, dataset.category_ids
    for name, write in (
        ("predictions.json", lambda path: write_predictions_json(path, detections, frames, ids)),
        ("predictions.txt", lambda path: write_predictions_text(path, detections, frames)),
    ):
        path = folder / name
        timed(f"{name} written", write, path)
        again = timed(f"{name} read", read_predictions, path, frames, ids)
        error = float(np.abs(again.boxes - detections.boxes).max(initial=0))
        print(f"  {path.stat().st_size / 2**20:.0f} MiB, largest change of a box {error:.4f} px")


def measure_report(dataset: EvaluationDataset, detections: Detections, folder: Path) -> None:
    """Score for, and write, the HTML report. The frames have no files: no thumbnails are drawn."""
    run = timed("report: scored", score_run, "made up", dataset, detections)
    path = timed("report: written", write_report, folder, dataset, [run])
    print(f"  {path.stat().st_size / 2**20:.1f} MiB")


def main() -> None:
    """Draw the data, evaluate it, and print times and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="part of VID val's frames")
    parser.add_argument("--detections", type=int, default=100, help="detections a frame")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--areas", action="store_true", help="area ranges too")
    parser.add_argument("--coco", action="store_true", help="time pycocotools on the same data")
    parser.add_argument("--files", action="store_true", help="write and read saved predictions too")
    parser.add_argument("--report", action="store_true", help="write the HTML report too")
    parser.add_argument("--table", action="store_true", help="print the results too")
    args = parser.parse_args()
    num_frames = max(1, round(VID_VAL_FRAMES * args.scale))
    generator = np.random.default_rng(args.seed)
    ground_truth, first_box, motion_seconds = make_ground_truth(num_frames, generator)
    detections = make_detections(ground_truth, first_box, args.detections, generator)
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}")
    print(f"{num_frames} frames, {len(ground_truth)} boxes, {len(detections)} detections")
    print(f"data made: peak {peak_gib():.2f} GiB")
    print(f"motion IoU from tracks: {motion_seconds:.2f} s")
    for protocol in ("fgfa", "devkit", *(["coco"] if args.coco else [])):
        result = timed(
            protocol,
            evaluate_detections,
            ground_truth,
            detections,
            protocol,
            area_ranges=args.areas and protocol != "coco",
            progress=True,
        )
        print(f"  mAP50 {result.metrics()['mAP50']:.2f}")
        if args.table:
            print(format_result(result))
    frames = [
        {
            "image_id": row + 1,
            "video_id": f"{row // VIDEO_LENGTH}",
            "frame_index": row % VIDEO_LENGTH,
        }
        for row in range(num_frames)
    ]
    dataset = EvaluationDataset("made up", ground_truth, frames, range(NUM_CLASSES))
    with tempfile.TemporaryDirectory() as folder:
        if args.files:
            measure_files(dataset, detections, Path(folder))
        if args.report:
            measure_report(dataset, detections, Path(folder))


if __name__ == "__main__":
    main()
