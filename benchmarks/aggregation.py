"""Fusing T warped neighbours into a key frame: ours against warp-everything-then-fuse.

    python benchmarks/aggregation.py                                     # CPU, T = 20, C = 1024
    python benchmarks/aggregation.py --device cuda --dtype bfloat16
    python benchmarks/aggregation.py --memory                            # added memory on the CPU

A result that is wrong gets no time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os

import timing
import torch
import torch.nn.functional as F
from torch import Tensor

from iff_detectron2.layers import backend, warp_and_aggregate
from iff_detectron2.layers.aggregation import warp_and_aggregate_reference

# Coordinates are float32, and a sampling grid adds its own rounding: at 63 columns some 1e-5 cells.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2, torch.float16: 5e-3}


def grid_sample(x: Tensor, flow: Tensor) -> Tensor:
    """PyTorch's own sampling, coordinates normalised to [-1, 1]."""
    height, width = x.shape[2:]
    columns = torch.arange(width, device=x.device)
    rows = torch.arange(height, device=x.device)[:, None]
    grid = torch.stack(
        (
            2 * (flow[:, 0] + columns) / max(width - 1, 1) - 1,
            2 * (flow[:, 1] + rows) / max(height - 1, 1) - 1,
        ),
        -1,
    )
    return F.grid_sample(x, grid.to(x.dtype), align_corners=True)


def warp_then_fuse(
    features: Tensor, embeddings: Tensor, flow: Tensor, key_embedding: Tensor, key_features: Tensor
) -> Tensor:
    """Return the usual chain of the FGFA ports, in the input's type."""
    fused = torch.cat((grid_sample(features, flow), key_features))
    embedded = torch.cat((grid_sample(embeddings, flow), key_embedding))
    weight = F.cosine_similarity(embedded, key_embedding, dim=1).softmax(0).unsqueeze(1)
    return (weight * fused).sum(0, keepdim=True)


def without_kernels(*inputs: Tensor) -> Tensor:
    """Our operator with the Triton kernels switched off."""
    os.environ[backend.KERNELS_VARIABLE] = "0"
    try:
        return warp_and_aggregate(*inputs)
    finally:
        del os.environ[backend.KERNELS_VARIABLE]


def candidates(device: str) -> dict[str, timing.Function]:
    """Return the formulations to compare."""
    found: dict[str, timing.Function] = {"ours": warp_and_aggregate}
    if device == "cuda":
        found["ours without Triton"] = without_kernels
    found["our warp, then fuse"] = warp_and_aggregate_reference
    found["grid_sample, then fuse"] = warp_then_fuse
    return found


def smooth_flow(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return flows as estimators give them, locations beside each other moving alike."""
    coarse = 4 * torch.randn(count, 2, -(-height // 8), -(-width // 8), generator=generator)
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)


def make_inputs(args: argparse.Namespace, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, args.dtype)

    def normal(count: int, channels: int) -> Tensor:
        x = torch.randn(count, channels, args.height, args.width, generator=generator)
        x = x.to(args.device, dtype)
        return x.contiguous(memory_format=torch.channels_last) if args.channels_last else x

    inputs = [normal(args.neighbours, args.channels), normal(args.neighbours, args.embedding)]
    flow = smooth_flow(args.neighbours, args.height, args.width, generator)
    if args.rough_flow:
        flow = 2 * torch.randn(flow.shape, generator=generator)
    return [*inputs, flow.to(args.device), normal(1, args.embedding), normal(1, args.channels)]


def report(args: argparse.Namespace) -> None:
    dtype, device = getattr(torch, args.dtype), torch.device(args.device)
    inputs = [make_inputs(args, seed) for seed in range(args.sets)]
    expected = [warp_and_aggregate_reference(*(x.double() for x in inputs[0]))]
    results = timing.compare(candidates(args.device), inputs, expected, args.rounds)
    values = sum(x.numel() for x in inputs[0]) + args.channels * args.height * args.width
    bandwidth = timing.copy_bandwidth(device)
    floor = values * inputs[0][0].element_size() / bandwidth / 1e6
    print(
        f"T = {args.neighbours}, C = {args.channels}, E = {args.embedding}, {args.height} x "
        f"{args.width}, {args.dtype}; copy {bandwidth:.0f} GB/s, memory floor {floor:.3f} ms"
    )
    print(f"{'':26}{'median ms':>11}{'min':>10}{'+-':>9}{'x ours':>8}{'x floor':>9}{'error':>10}")
    ours = results["ours"]
    for name, result in results.items():
        if isinstance(result, str):
            print(f"{name:26}{result}")
        elif result.error > TOLERANCE[dtype]:
            print(f"{name:26}WRONG: error {result.error:.1e}; no time")
        else:
            times_ours = result.median / ours.median if isinstance(ours, timing.Timing) else 0
            print(
                f"{name:26}{result.median:11.3f}{min(result.milliseconds):10.3f}"
                f"{result.spread:9.3f}{times_ours:8.2f}{result.median / floor:9.1f}"
                f"{result.error:10.1e}"
            )


def added_memory(name: str, args: argparse.Namespace, queue) -> None:
    """Put the MiB that one call adds to the peak of a fresh process."""
    torch.set_num_threads(args.threads)
    function, inputs = candidates("cpu")[name], make_inputs(args, 0)
    with torch.no_grad():
        function(*(x[:, :, :4, :4] for x in inputs))  # loads libraries
        before = timing.reset_peak_memory()
        function(*inputs)
    queue.put(timing.peak_memory() - before)


def report_memory(args: argparse.Namespace) -> None:
    context = multiprocessing.get_context("spawn")
    print("added peak memory, MiB")
    for name in candidates("cpu"):
        queue = context.Queue()
        process = context.Process(target=added_memory, args=(name, args, queue))
        process.start()
        print(f"{name:26}{queue.get(timeout=600):10.1f}")
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--neighbours", type=int, default=20)
    parser.add_argument("--channels", type=int, default=1024)
    parser.add_argument("--embedding", type=int, default=2048)
    parser.add_argument("--height", type=int, default=38)
    parser.add_argument("--width", type=int, default=63)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sets", type=int, default=2, help="sets of inputs to rotate through")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--rough-flow", action="store_true", help="every location moves its own way"
    )
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--memory", action="store_true", help="report added memory (CPU) instead")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory:
        report_memory(args)
        return
    with torch.no_grad():
        report(args)


if __name__ == "__main__":
    main()
