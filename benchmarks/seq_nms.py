"""Seq-NMS: speed beside the plain twin of the tests, growth with frames, a set like VID val.

    python benchmarks/seq_nms.py                      # all three
    python benchmarks/seq_nms.py --only set           # one of: plain, growth, set

The data is random for a fixed seed: objects that wander, several boxes each, and clutter. The twin
(tests/postprocessing/plain_seq_nms.py) runs the whole dynamic programme again in each round, as
FGFA's release does; on the timed data its result is compared with the fast one's.
"""

from __future__ import annotations

import argparse
import os
import platform
import runpy
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
from timing import peak_memory

from iff_detectron2.postprocessing import SeqNMSOptions, rescore_detections
from iff_detectron2.structures import Detections
from iff_detectron2.utils.parallel import usable_cores

TWIN = Path(__file__).parents[1] / "tests" / "postprocessing" / "plain_seq_nms.py"
VID_VAL_FRAMES, VID_VAL_VIDEOS, NUM_CLASSES = 176_126, 555, 30
GROWTH_FRAMES = (100, 200, 400, 800, 1600)


def make_video(
    num_frames: int,
    boxes_a_frame: int,
    generator: np.random.Generator,
    boxes_an_object: int = 3,
    clutter: int = 2,
    num_classes: int = 1,
) -> Detections:
    """Draw detections of a video, boxes and scores in single precision.

    Objects change speed at random and are reflected at the borders of 1280 x 720 pixels; each has
    `boxes_an_object` boxes in every frame, off by a few pixels, of its own class.
    """
    num_objects = max((boxes_a_frame - clutter) // boxes_an_object, 1)
    clutter = boxes_a_frame - num_objects * boxes_an_object
    field = np.array([1280.0, 720.0])
    steps = np.cumsum(generator.normal(0, 0.3, size=(num_frames, num_objects, 2)), axis=0)
    walk = generator.uniform(0, field, size=(num_objects, 2)) + np.cumsum(steps, axis=0)
    corner = field - np.abs(walk % (2 * field) - field)
    size = generator.uniform(40, 300, size=(num_objects, 2))
    found = np.concatenate([corner, corner + size], axis=2).repeat(boxes_an_object, axis=1)
    found += generator.normal(0, 0.04, found.shape) * np.tile(size, 2).repeat(boxes_an_object, 0)
    lost = generator.uniform(0, field, size=(num_frames, clutter, 2))
    wide = generator.uniform(20, 300, size=lost.shape)
    boxes = np.concatenate([found, np.concatenate([lost, lost + wide], axis=2)], axis=1)
    classes = np.concatenate(
        [
            np.tile(
                generator.integers(num_classes, size=num_objects).repeat(boxes_an_object),
                (num_frames, 1),
            ),
            generator.integers(num_classes, size=(num_frames, clutter)),
        ],
        axis=1,
    )
    scores = generator.random(classes.shape, dtype=np.float32) ** 2
    frames = np.repeat(np.arange(num_frames), boxes_a_frame)
    return Detections(
        frames, boxes.reshape(-1, 4).astype(np.float32), scores.ravel(), classes.ravel()
    )


def seconds_of(function: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median and shortest time of some rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times), min(times)


def compare_with_plain(variant: str, seed: int, rounds: int) -> None:
    """200 frames x 50 boxes of one class: the twin's time over ours, and are they equal?"""
    found = make_video(200, 50, np.random.default_rng(seed))
    options = SeqNMSOptions(variant)
    median, shortest = seconds_of(lambda: rescore_detections(found, options, num_workers=1), rounds)
    columns = (found.frames, found.boxes, found.scores, found.classes)
    frames, boxes, scores, classes = (column.tolist() for column in columns)
    detections = [
        {"frame": frame, "box": tuple(box), "score": score, "class": class_id}
        for frame, box, score, class_id in zip(frames, boxes, scores, classes, strict=True)
    ]
    plain_seq_nms = runpy.run_path(str(TWIN))["plain_seq_nms"]
    rescore = {"seq_nms": "mean", "seq_nms_plus": "mean_max"}[variant]
    start = time.perf_counter()
    plain = plain_seq_nms(detections, variant, rescore)
    plain_seconds = time.perf_counter() - start
    fast, rows = rescore_detections(found, options)
    result = [
        (frames[row], tuple(boxes[row]), score, track)
        for row, score, track in zip(
            rows.tolist(), fast.scores.tolist(), fast.tracks().tolist(), strict=True
        )
    ]
    expected = [(d["frame"], d["box"], d["score"], d["track"]) for d in plain]
    equal = "equal" if sorted(result) == sorted(expected) else "DIFFERENT"
    print(
        f"{variant}, 200 frames x 50 boxes, one class: plain {plain_seconds:.2f} s, fast "
        f"{median * 1e3:.1f} ms (shortest {shortest * 1e3:.1f}, {rounds} rounds, one thread): "
        f"{plain_seconds / median:.0f} times faster; results {equal}, "
        f"{fast.tracks().max(initial=0)} tracks"
    )


def measure_growth(variant: str, seed: int, rounds: int) -> None:
    """Time over frames at 50 boxes a frame, and the exponent of a power law through it."""
    medians = []
    for num_frames in GROWTH_FRAMES:
        found = make_video(num_frames, 50, np.random.default_rng(seed))
        options = SeqNMSOptions(variant)

        def run(found: Detections = found, options: SeqNMSOptions = options) -> object:
            return rescore_detections(found, options, num_workers=1)

        medians.append(seconds_of(run, rounds)[0])
    exponent = np.polyfit(np.log(GROWTH_FRAMES), np.log(medians), 1)[0]
    times = ", ".join(
        f"{num_frames}: {1e3 * seconds:.1f} ms"
        for num_frames, seconds in zip(GROWTH_FRAMES, medians, strict=True)
    )
    print(f"{variant}, frames x 50 boxes, one class: {times}; exponent {exponent:.2f}")


def measure_set(variant: str, seed: int, scale: float, num_workers: int) -> None:
    """Return a whole set: videos of VID val's number and length, 30 classes, 8 boxes a frame."""
    generator = np.random.default_rng(seed)
    num_frames, num_videos = round(VID_VAL_FRAMES * scale), max(round(VID_VAL_VIDEOS * scale), 1)
    cuts = np.sort(generator.choice(np.arange(1, num_frames), num_videos - 1, replace=False))
    lengths = np.diff(cuts, prepend=0, append=num_frames)
    parts = [make_video(n, 8, generator, num_classes=NUM_CLASSES) for n in lengths.tolist()]
    starts = np.cumsum(lengths) - lengths
    found = Detections.concatenate(
        replace(part, frames=part.frames + start) for part, start in zip(parts, starts, strict=True)
    )
    frames = [
        {"video_id": video, "frame_index": index}
        for video, length in enumerate(lengths.tolist())
        for index in range(length)
    ]
    del parts
    print(f"{num_videos} videos, {num_frames} frames, {len(found)} boxes: peak with data "
          f"{peak_memory() / 1024:.2f} GiB")  # fmt: skip
    start = time.perf_counter()
    rescored, _ = rescore_detections(
        found, SeqNMSOptions(variant), frames=frames, num_workers=num_workers
    )
    seconds = time.perf_counter() - start
    print(
        f"{variant} on it, {num_workers} threads: {seconds:.1f} s, peak "
        f"{peak_memory() / 1024:.2f} GiB, {len(rescored)} boxes stay"
    )


def main() -> None:
    """Measure, and print each number beside what it must reach."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("plain", "growth", "set"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="part of VID val's frames")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="threads of the set")
    args = parser.parse_args()
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, numba {numba.__version__}, "
        f"{platform.machine()}, {usable_cores()} cores, load {os.getloadavg()[0]:.1f}"
    )
    start = time.perf_counter()
    rescore_detections(make_video(2, 5, np.random.default_rng(0)))
    print(f"first call, which loads or compiles the loops: {time.perf_counter() - start:.1f} s")
    if args.only in (None, "set"):  # first, so that the peak is its own
        print("\nTo reach with seq_nms_plus: 180 s on 2 cores, 4 GiB")
        for variant in ("seq_nms_plus", "seq_nms"):
            measure_set(variant, args.seed, args.scale, args.workers)
    if args.only in (None, "growth"):
        print("\nTo reach: an exponent of at most 1.3")
        for variant in ("seq_nms", "seq_nms_plus"):
            measure_growth(variant, args.seed, args.rounds)
    if args.only in (None, "plain"):
        print("\nTo reach with seq_nms: 50 times faster than the plain twin")
        for variant in ("seq_nms", "seq_nms_plus"):
            compare_with_plain(variant, args.seed, args.rounds)


if __name__ == "__main__":
    main()
