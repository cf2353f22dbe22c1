"""From a video file to boxes: frames per second, and where the time of a frame goes.

    python benchmarks/pipeline.py                                  # R-101, 600x1000 and 1080p
    python benchmarks/pipeline.py --device cuda TEST.VIDEO.AMP bfloat16
    python benchmarks/pipeline.py --small --sizes 160x224          # the nets of MovingShapes
    python benchmarks/pipeline.py --streams 4                      # and 4 videos at once

The video is made up: a picture that moves, as MPEG-4. Weights are random, which changes no time but
that of NMS. Windows are causal, so that every frame is fused with all its reference frames from the
first one on. Rows are run in turn, round by round, and the medians are printed: compare them with
each other, not with those of another run. Frames per second are those of iterating over a
`VideoPredictor`, which decodes and resizes on another thread; the parts of a frame are timed one
after the other, on a GPU with a wait behind each, so that their sum is more than a frame takes.
Several streams are the same video several times, each decoded and resized on a thread of its own,
through a `MultiVideoPredictor`; frames per second are those of all of them together. Processor time
is that of all threads: on a machine that others use too, compare that.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from experiment import markdown_table, origin
from streaming import ROWS, build, config

from iff_detectron2.engine import MultiVideoPredictor, VideoPredictor
from iff_detectron2.modeling.seam import VideoMixin, image_backbone
from iff_detectron2.video.sources import open_source

SMALL = {
    "R-FCN": "configs/MovingShapes/rfcn.yaml",
    "IFF-A": "configs/MovingShapes/iff_net_A.yaml",
    "IFF-C": "configs/MovingShapes/iff_net_C.yaml",
    "OptFlow-B": "configs/MovingShapes/optflow_B.yaml",
}
PARTS = ("decode", "resize", "backbone", "flow", "fusion", "heads", "output")
WARM = 2  # frames of each run that do not count


def write_video(path: Path, size: tuple[int, int], frames: int) -> None:
    """Write a picture that moves by 3 pixels per frame.

    Args:
        path: of the file, `.mp4`.
        size: height and width of its frames.
        frames: how many.
    """
    height, width = size
    shape = -(-height // 8), -(-(width + 3 * frames) // 8), 3
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    picture = cv2.resize(picture, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (width, height))
    if not writer.isOpened():
        raise OSError(f"OpenCV cannot write MPEG-4 to {path}; name a video of your own by --video")
    for t in range(frames):
        writer.write(picture[:height, 3 * t : 3 * t + width])
    writer.release()


class Parts:
    """Seconds by part; what a part has another do does not count as its own."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: Counter[str] = Counter()
        self._running: list[str] = []
        self._device = device
        self._since = 0.0

    def _next(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Count the time within for a part."""
        self._next()
        self._running.append(part)
        try:
            yield
        finally:
            self._next()
            self._running.pop()

    def watch(self, owner: Any, name: str, part: str) -> Callable[[], None]:
        """Count the calls of a method for a part; returns what ends that."""
        own, had = getattr(owner, name), vars(owner).get(name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.on(part):
                return own(*args, **kwargs)

        setattr(owner, name, counted)
        return lambda: delattr(owner, name) if had is None else setattr(owner, name, had)


def watch_detector(parts: Parts, predictor: VideoPredictor) -> list[Callable[[], None]]:
    """Watch the parts of a detector; returns what ends it."""
    model = predictor.model
    watched: list[tuple[Any, str, str]] = [
        (predictor, "_to_input", "resize"),
        (image_backbone(model), "forward", "backbone"),
        (model, "forward", "heads"),
    ]
    if isinstance(model, VideoMixin):
        watched.append((model.temporal, "fuse", "fusion"))
        for aggregator in model.temporal.aggregators.values():
            if aggregator.estimates_flow:
                estimator = aggregator.flow_estimator
                watched += [(estimator, name, "flow") for name in ("encode", "estimate")]
    return [parts.watch(*one) for one in watched]


def parts_of_a_frame(predictor: VideoPredictor, video: Path, frames: int) -> dict[str, float]:
    """Return milliseconds per frame by part, of work that is done one after the other."""
    parts = Parts(predictor.device)
    ends = watch_detector(parts, predictor)
    predictor.reset()
    try:
        with closing(open_source(str(video)).read()) as source:
            for t in range(WARM + frames):
                if t == WARM:
                    parts.seconds.clear()
                with parts.on("decode"):
                    frame = next(source)
                with parts.on("output"):
                    predictor.push(frame)
    finally:
        for end in reversed(ends):
            end()
        predictor.reset()
    return {part: 1e3 * parts.seconds[part] / frames for part in PARTS}


class Speed(NamedTuple):
    """Frames per second by the wall clock, and processor milliseconds per frame."""

    per_second: float
    processor: float


class Clock:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def speed(self, frames: int) -> Speed:
        """Return that of so many frames since then."""
        processor = time.process_time() - self._processor
        return Speed(frames / (time.perf_counter() - self._wall), 1e3 * processor / frames)


def speed_alone(predictor: VideoPredictor, video: Path, frames: int) -> Speed:
    """Return the speed of iterating over a video, behind the first frames."""
    with (
        closing(open_source(str(video)).read()) as source,
        closing(predictor(islice(source, WARM + frames))) as results,
    ):
        for t, _ in enumerate(results):
            if t == WARM - 1:
                clock = Clock()
    return clock.speed(frames)


def speed_together(predictor: MultiVideoPredictor, video: Path, frames: int, streams: int) -> Speed:
    """Return the speed of several streams in one batch, behind the first frames."""
    with ExitStack() as stack:
        sources = {
            number: islice(
                stack.enter_context(closing(open_source(str(video)).read())), WARM + frames
            )
            for number in range(streams)
        }
        results = stack.enter_context(closing(predictor(sources)))
        for count, _ in enumerate(results):
            if count == WARM * streams - 1:
                clock = Clock()
    return clock.speed(streams * frames)


Found = dict[str, tuple[list[Speed], dict[str, float]]]
"""Of each row the speed, that of several streams too, and milliseconds by part."""


def measure(args: argparse.Namespace, video: Path) -> Found:
    """Return what is found of each row, medians of the rounds."""
    weights: dict[str, torch.Tensor] = {}
    predictors, together = {}, {}
    window = ("TEST.VIDEO.CAUSAL", True)
    for name in args.rows:
        cfg = config((SMALL if args.small else ROWS)[name], args, *window)
        predictors[name] = VideoPredictor(cfg, build(cfg, weights))
        together[name] = MultiVideoPredictor(cfg, predictors[name].model)
    speeds: dict[str, list[list[Speed]]] = {name: [] for name in predictors}
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in predictors}
    for _ in range(args.rounds):
        for name, predictor in predictors.items():
            found = [speed_alone(predictor, video, args.frames)]
            if args.streams > 1:
                several = together[name], video, args.frames, args.streams
                found.append(speed_together(*several))
            speeds[name].append(found)
            parts[name].append(parts_of_a_frame(predictor, video, args.frames))
    return {
        name: (
            [_median(column) for column in zip(*speeds[name], strict=True)],
            {part: statistics.median(found[part] for found in parts[name]) for part in PARTS},
        )
        for name in predictors
    }


def _median(speeds: Sequence[Speed]) -> Speed:
    return Speed(*(statistics.median(column) for column in zip(*speeds, strict=True)))


def report(found: Found, streams: int) -> str:
    """Return the table."""
    plain = found["R-FCN"][0][0].per_second if "R-FCN" in found else None
    rows = [
        [
            name,
            f"{speeds[0].per_second:.2f}",
            f"{plain / speeds[0].per_second:.2f}" if plain else "-",
            f"{speeds[0].processor:.1f}",
            *(cell for s in speeds[1:] for cell in (f"{s.per_second:.2f}", f"{s.processor:.1f}")),
            *(f"{parts[part]:.1f}" for part in PARTS),
        ]
        for name, (speeds, parts) in found.items()
    ]
    several = [f"frames/s, {streams} streams", "processor ms"] if streams > 1 else []
    parts = [f"{part}, ms" for part in PARTS]
    return markdown_table(["row", "frames/s", "over R-FCN", "processor ms", *several, *parts], rows)


def size_of(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH."""
    height, width = map(int, text.split("x"))
    return height, width


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table per size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--small", action="store_true", help="the nets of MovingShapes")
    sizes = [(600, 1000), (1080, 1920)]
    parser.add_argument("--sizes", nargs="+", type=size_of, default=sizes, help="HEIGHTxWIDTH")
    parser.add_argument("--video", type=Path, help="a video file of your own instead")
    parser.add_argument("--frames", type=int, default=8, help="timed frames of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=1, help="videos at once, beside one alone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for all")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the configs")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    print(*origin().values(), args.device, f"{torch.get_num_threads()} CPU threads", sep=", ")
    if args.video is not None:
        print(report(measure(args, args.video), args.streams))
        return
    for height, width in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            video = Path(folder) / "video.mp4"
            write_video(video, (height, width), WARM + args.frames)
            print(
                f"\nvideo of {height} x {width}, median of {args.rounds} x {args.frames} frames\n"
            )
            print(report(measure(args, video), args.streams), flush=True)


if __name__ == "__main__":
    main()
