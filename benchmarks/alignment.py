"""Flow of the neighbours of one key frame: the advanced IFF module against FlowNetS.

    python benchmarks/alignment.py                       # CPU, 20 neighbours, images of 600 x 1000
    python benchmarks/alignment.py --device cuda --dtype bfloat16
    python benchmarks/alignment.py --config configs/MovingShapes/iff_net_C.yaml --channels 128

What a stream computes for one key frame is timed: what a flow estimator makes of the frame that is
new (EB-1; FlowNetS keeps the image) and the flow of all neighbours. Weights are random, which
changes no time. On a machine that others use too, compare the time of the processor, with one
thread. Without a flow that agrees with float64 a candidate gets no time.
"""

from __future__ import annotations

import argparse
import statistics
import time

import timing
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from iff_detectron2.engine import load_config
from iff_detectron2.engine.acceleration import prepare_for_inference
from iff_detectron2.modeling.flow_estimator import FlowEstimator, build_flow_estimator

CONFIG = "configs/ImageNetVID/iff_net_C_R_101.yaml"
STRIDE = 16
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=CONFIG, help="config of both (%(default)s)")
    parser.add_argument("--channels", type=int, default=1024, help="of the features")
    parser.add_argument("--size", type=int, nargs=2, default=(600, 1000), help="of the images")
    parser.add_argument("--neighbours", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for all")
    return parser.parse_args()


def build(name: str, args: argparse.Namespace) -> FlowEstimator:
    """Return a flow estimator with random weights that predict some flow."""
    width = ("MODEL.IFF.FLOW.CHANNELS", 512) if args.channels == 1024 else ()
    cfg = load_config(args.config, ["MODEL.IFF.FLOW.NAME", name, *width])
    torch.manual_seed(0)
    estimator = build_flow_estimator(cfg, ShapeSpec(channels=args.channels, stride=STRIDE)).eval()
    for parameter in estimator.parameters():
        if not parameter.any() and parameter.dim() > 1:  # the last layer starts at zero
            torch.nn.init.normal_(parameter, std=0.01)
    return estimator


def run(estimator: FlowEstimator, features: Tensor, images: Tensor, *codes: Tensor) -> Tensor:
    """Encode the new frame and finds the flow of all neighbours to it."""
    return estimator.estimate(estimator.encode(features, images), codes)


def gflops(estimator: FlowEstimator, *inputs: Tensor) -> float:
    """Arithmetic of one run in GFLOP; the correlation counted by hand."""
    with FlopCounterMode(display=False) as counter:
        run(estimator, *inputs)
    total = counter.get_total_flops()
    if hasattr(estimator, "max_displacement"):
        side = 2 * (estimator.max_displacement // estimator.correlation_stride) + 1
        total += 2 * side**2 * sum(codes.numel() for codes in inputs[2:])
    return total / 1e9


@torch.inference_mode()
def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    height, width = args.size
    shape = (args.channels, -(-height // STRIDE), -(-width // STRIDE))
    estimators = {name: build(name, args) for name in ("AdvancedIFF", "FlowNetS")}
    features = torch.randn(1, *shape).relu_()
    images = torch.randn(1, 3, height, width)
    neighbours = [
        (torch.randn(1, *shape).relu_(), torch.randn(1, 3, height, width))
        for _ in range(args.neighbours)
    ]
    rows: dict[str, tuple] = {}
    times: dict[str, list[tuple[float, float]]] = {}
    for name, estimator in estimators.items():
        codes = [estimator.encode(*neighbour) for neighbour in neighbours]
        flops = gflops(estimator, features, images, *codes)
        # Two neighbours tell whether it is right; float64 of all of them would take minutes.
        exact = estimator.double()(
            estimator.encode(features.double(), images.double()), torch.cat(codes[:2]).double()
        )
        prepare_for_inference(estimator.to(device, dtype))
        inputs = [
            x.to(device, dtype, memory_format=torch.channels_last)  # as a stream keeps them
            for x in (features, images, *codes)
        ]
        error = timing.largest_error(run(estimator, *inputs[:4]), [exact])
        if error > TOLERANCE[dtype]:
            print(f"{name}: wrong by {error:.1e}, no time")
            continue
        run(estimator, *inputs)
        rows[name] = (estimator, inputs, flops, error)
        times[name] = []
    for _ in range(args.rounds):
        for name, (estimator, inputs, *_) in rows.items():
            before = time.process_time()
            wall = timing.clock(lambda *x, e=estimator: run(e, *x), inputs)
            times[name].append((wall, 1e3 * (time.process_time() - before)))
    where = f"{torch.get_num_threads()} threads" if device.type == "cpu" else "one GPU"
    print(
        f"{args.neighbours} neighbours, features {shape}, images {height} x {width}, {args.dtype}, "
        f"{device.type}, {where}, torch {torch.__version__}"
    )
    medians = {n: [statistics.median(t[c] for t in v) for c in (0, 1)] for n, v in times.items()}
    for name, (_, _, flops, error) in rows.items():
        wall, cpu = medians[name]
        print(
            f"{name:12} {wall:8.2f} ms a key frame, {cpu:8.0f} processor ms  {flops:6.1f} GFLOP  "
            f"{1e3 * flops / wall:6.0f} GFLOP/s  error {error:.1e}"
        )
    if len(rows) == 2:
        ratios = [
            a / b for a, b in zip(*(medians[n] for n in ("FlowNetS", "AdvancedIFF")), strict=True)
        ]
        print(
            f"advanced IFF is {ratios[0]:.1f} times cheaper, {ratios[1]:.1f} times by processor "
            "time (paper, on a GPU of 2019: 2.27 times)"
        )


if __name__ == "__main__":
    main()
