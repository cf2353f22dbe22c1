"""Cost of a stream: milliseconds a frame and memory of the paper's rows, growth, and a long run.

    python benchmarks/streaming.py                # all three parts
    python benchmarks/streaming.py --part rows --device cuda
    python benchmarks/streaming.py --part growth  # windows of 4 to 40 neighbours
    python benchmarks/streaming.py --part long    # 2 000 frames of a small net

Weights and frames are random, which changes no time but that of NMS. `rows` uses causal windows, so
that every frame is fused with all its neighbours from the first one on (frame 0 stands for those
before it). Processor time of all threads is reported beside the
wall clock: on a machine that others use too, compare that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import numpy as np
import timing
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch.utils.flop_counter import FlopCounterMode

from iff_detectron2.engine import VideoPredictor, load_config
from iff_detectron2.engine.acceleration import prepare_for_inference

ROWS = {
    "R-FCN": "configs/ImageNetVID/rfcn_R_101.yaml",
    "IFF-A": "configs/ImageNetVID/iff_net_A_R_101.yaml",
    "IFF-C": "configs/ImageNetVID/iff_net_C_R_101.yaml",
    "OptFlow-B": "configs/ImageNetVID/optflow_B_R_101.yaml",
}
SMALL = "configs/MovingShapes/iff_net_C.yaml"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("all", "rows", "growth", "long"), default="all")
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--size", type=int, nargs=2, default=(600, 1000), help="of the frames")
    parser.add_argument("--frames", type=int, default=5, help="timed frames of rows and growth")
    parser.add_argument("--long-frames", type=int, default=2000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for all")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the configs")
    return parser.parse_args()


def config(path: str, args: argparse.Namespace, *opts: object) -> CfgNode:
    fixed = ("MODEL.WEIGHTS", "", "MODEL.DEVICE", args.device)
    return load_config(path, [*map(str, (*fixed, *opts)), *args.opts])


def build(cfg: CfgNode, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Return a model with random weights; those that models have in common are the same."""
    torch.manual_seed(0)
    model = build_model(cfg)
    own = model.state_dict()
    shared = {k: weights[k] for k in own.keys() & weights.keys()}
    model.load_state_dict({**own, **{k: v for k, v in shared.items() if v.shape == own[k].shape}})
    for name, parameter in model.named_parameters():
        # Flow layers start at zero; some flow makes the warp read where a trained one would.
        if "flow_estimator" in name and parameter.dim() > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.01)
    weights.update(model.state_dict())
    return prepare_for_inference(model)  # as a predictor does with the model that it loads


def frames(size: tuple[int, int], seed: int = 0) -> Iterator[np.ndarray]:
    """Endless frames of coarse noise."""
    generator = np.random.default_rng(seed)
    height, width = size
    while True:
        coarse = generator.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
        yield coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]


def timed_push(predictor: VideoPredictor, frame: np.ndarray) -> tuple[float, float]:
    """Milliseconds of one frame by the wall clock and of the processor."""
    cuda = predictor.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter(), time.process_time()
    predictor.push(frame)
    if cuda:
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start[0]), 1e3 * (time.process_time() - start[1])


def reset_peak(device: torch.device) -> float:
    """Start the measurement of peak memory; return what is in use, in MiB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    return timing.reset_peak_memory()


def peak(device: torch.device) -> float:
    """Peak memory since the last reset, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return timing.peak_memory()


def rows(args: argparse.Namespace) -> None:
    """Time a frame and memory of R-FCN and the rows of the paper, round by round in turn."""
    predictors, weights = {}, {}
    window = ("TEST.VIDEO.NUM_REFS", 20, "TEST.VIDEO.CAUSAL", True)
    for name in args.rows:
        cfg = config(ROWS[name], args, *(window if name != "R-FCN" else ()))
        predictors[name] = VideoPredictor(cfg, build(cfg, weights))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in predictors}
    peaks = dict.fromkeys(predictors, 0.0)
    gflop = {}
    for name, predictor in predictors.items():  # the first frame warms up, too
        with FlopCounterMode(display=False) as counter:
            predictor.push(next(frames(args.size)))
        gflop[name] = counter.get_total_flops() / 1e9
    for _, frame in zip(range(args.frames), frames(args.size, seed=1), strict=False):
        for name, predictor in predictors.items():
            before = reset_peak(predictor.device)
            spent = timed_push(predictor, frame)
            peaks[name] = max(peaks[name], peak(predictor.device) - before)
            times[name].append(spent)
    print(f"\nR-101, {args.size[0]} x {args.size[1]}, 20 neighbours, median of {args.frames}")
    print(
        "row       GFLOP  ms a frame  processor ms  over R-FCN  MiB added by a frame  planned, GiB"
    )
    medians = {n: [statistics.median(t[c] for t in v) for c in (0, 1)] for n, v in times.items()}
    base = medians.get("R-FCN")
    clock = 1 if args.device == "cpu" else 0
    for name, (wall, cpu) in medians.items():
        ratio = f"{medians[name][clock] / base[clock]:.2f}" if base else "-"
        plan = predictors[name].plan(*args.size)
        print(
            f"{name:9} {gflop[name]:5.0f} {wall:11.0f} {cpu:13.0f} {ratio:>11} "
            f"{peaks[name]:21.0f} {plan.on_device / 2**30:13.2f}"
        )
    if {"IFF-C", "OptFlow-B"} <= medians.keys():
        ratio = medians["OptFlow-B"][clock] / medians["IFF-C"][clock]
        by_gflop = gflop["OptFlow-B"] / gflop["IFF-C"]
        print(f"OptFlow-B costs {ratio:.2f} times as much as IFF-C, by arithmetic {by_gflop:.2f}")


def growth(args: argparse.Namespace) -> None:
    """Time and memory of the small net as the window grows, against the plan."""
    weights: dict[str, torch.Tensor] = {}
    print(f"\n{SMALL}, 384 x 640, both sides, growth with the window")
    print(
        "neighbours  processor ms a frame   codes, MiB: planned  held   peak, MiB: planned  added"
    )
    for count in (4, 10, 20, 40):
        cfg = config(
            SMALL,
            args,
            *("TEST.VIDEO.NUM_REFS", count, "INPUT.MIN_SIZE_TEST", 384),
            *("INPUT.MAX_SIZE_TEST", 640),
        )
        predictor = VideoPredictor(cfg, build(cfg, weights))
        plan = predictor.plan(384, 640)
        clip = frames((384, 640))
        before = reset_peak(predictor.device)
        for _ in range(count + 1):
            predictor.push(next(clip))
        spent = [timed_push(predictor, next(clip))[1] for _ in range(args.frames)]
        added = peak(predictor.device) - before
        print(
            f"{count:10} {statistics.median(spent):21.0f} {plan.memory / 2**20:20.1f} "
            f"{predictor.memory.nbytes() / 2**20:5.1f} "
            f"{(plan.memory + plan.working) / 2**20:18.0f} {added:6.0f}"
        )
        predictor.reset()


def long(args: argparse.Namespace) -> None:
    """Memory and time of the first and the last half of a long video."""
    size = (64, 96)
    fixed = ("TEST.VIDEO.NUM_REFS", 20, "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96)
    cfg = config(SMALL, args, *fixed)
    predictor = VideoPredictor(cfg, build(cfg, {}))
    clip = frames(size)
    for _ in range(50):  # libraries take their buffers, the window fills
        predictor.push(next(clip))
    half = args.long_frames // 2
    parts = []
    for _ in range(2):
        reset_peak(predictor.device)
        spent = [timed_push(predictor, next(clip))[1] for _ in range(half)]
        parts.append((peak(predictor.device), statistics.median(spent)))
    print(f"\n{SMALL}, {size[0]} x {size[1]}, 20 neighbours, {2 * half} frames")
    for name, (memory, spent) in zip(("first half", "last half"), parts, strict=True):
        print(f"{name:10}  peak {memory:8.1f} MiB   {spent:6.1f} processor ms a frame")
    (first, fast), (last, slow) = parts
    print(f"change: peak {100 * (last / first - 1):+.2f} %, time {100 * (slow / fast - 1):+.1f} %")


def main() -> None:
    args = parse_args()
    args.size = tuple(args.size)
    if args.threads:
        torch.set_num_threads(args.threads)
    where = f"{torch.get_num_threads()} CPU threads" if args.device == "cpu" else args.device
    print(f"torch {torch.__version__}, {where}")
    for part in (rows, growth, long):
        if args.part in ("all", part.__name__):
            part(args)


if __name__ == "__main__":
    main()
