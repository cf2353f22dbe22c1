"""Times configurations of the Triton kernels on this GPU; the tables in kernels/ come from here.

    python benchmarks/tune_kernels.py --dtype bfloat16
    python benchmarks/tune_kernels.py --dtype float32 --tf32 --kernels forward

The sizes are the paper's: 512 x 38 x 63 for the correlation, C = 1024 and E = 2048 for the
aggregation, 20 neighbours of one key, channels last. A configuration that gives a wrong result or
does not fit the GPU gets no time.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
from collections.abc import Callable

import timing
import torch
from aggregation import smooth_flow
from iff_detectron2.kernels import aggregation, correlation
from torch import Tensor

from iff_detectron2.layers import correlation_matmul
from iff_detectron2.layers.aggregation import warp_and_aggregate_reference
from iff_detectron2.layers.cosine import EPS

HEIGHT, WIDTH, RADIUS, STRIDE = 38, 63, 5, 2
SIDE = 2 * RADIUS + 1
# Largest error of a right result, relative to the largest entry, by what `_kind` returns.
TOLERANCE = {
    torch.float32: 1e-4,
    torch.bfloat16: 2e-2,
    torch.float16: 5e-3,
    "tf32": 2e-3,
    "tf32x3": 1e-5,
}

# rows and columns of a tile, window pixels, channels, warps, stages
FORWARD = [
    (*tile, q, c, warps, stages)
    for tile, q, c, warps, stages in itertools.product(
        [(4, 16), (8, 16)], [64, 128, 256], [16, 32, 64], [4, 8], [3, 4]
    )
    # What a thread sums in registers and what one stage keeps in shared memory.
    if 32 <= tile[0] * tile[1] * q / (32 * warps) <= 128 and (q + tile[0] * tile[1]) * c <= 40960
]
GRADIENTS = [
    (*tile, q, c, warps, stages)
    for tile, q, c, warps, stages in itertools.product(
        [(4, 16), (8, 16)], [32, 64], [64, 128, 256], [4, 8], [3, 4]
    )
    if 16 <= tile[0] * tile[1] * c / (32 * warps) <= 128
]
# rows and columns of a patch, channels, warps
PATCHES = [
    (*patch, c, warps)
    for patch, c, warps in itertools.product(
        [(1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8)], [64, 128, 256, 512], [2, 4, 8]
    )
    if 8 <= patch[0] * patch[1] * c / (32 * warps) <= 32
]
TABLES = {
    "forward": (correlation.FORWARD, FORWARD),
    "gradient 1": (correlation.GRADIENTS, GRADIENTS),
    "gradient 2": (correlation.GRADIENTS, GRADIENTS),
    "weigh": (aggregation.WEIGH, PATCHES),
    "fuse": (aggregation.FUSE, PATCHES),
}


@functools.cache
def make_case(kernel: str, dtype: torch.dtype, count: int) -> tuple[Callable, list[Tensor], Tensor]:
    """Return a function that fills a tensor, its inputs and the float64 result."""
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(batch: int, channels: int) -> Tensor:
        shape = (batch, channels, HEIGHT, WIDTH)
        x = torch.randn(shape, generator=generator, device="cuda").to(dtype)
        return x.contiguous(memory_format=torch.channels_last)

    if kernel in ("weigh", "fuse"):
        flow = smooth_flow(count, HEIGHT, WIDTH, torch.Generator().manual_seed(0)).cuda()
        inputs = [normal(count, 1024), normal(count, 2048), flow, normal(1, 2048), normal(1, 1024)]
        expected = warp_and_aggregate_reference(*(x.double() for x in inputs))

        def run(*tensors: Tensor) -> None:
            aggregation.aggregate(*tensors, EPS)

        return run, inputs, expected
    key, neighbours, grad = normal(1, 512), normal(count, 512), normal(count, SIDE**2)
    name, inputs, like = {
        "forward": ("correlate", [key, neighbours], grad),
        "gradient 1": ("correlate_grad1", [grad, neighbours], key),
        "gradient 2": ("correlate_grad2", [grad, key], neighbours),
    }[kernel]
    expected = torch.empty_like(like, dtype=torch.float64)
    getattr(correlation_matmul, name)(*(x.double() for x in inputs), expected, RADIUS, STRIDE)

    def run(*tensors: Tensor) -> None:
        getattr(correlation, name)(*tensors, RADIUS, STRIDE)

    return run, inputs, expected


def _kind(kernel: str, dtype: torch.dtype) -> torch.dtype | str:
    return dtype if kernel in ("weigh", "fuse") else correlation.arithmetic(dtype)


def prepare(job: tuple) -> tuple[tuple, str]:
    """Compiles a configuration into Triton's cache; returns it and what is wrong with it."""
    from triton.runtime.errors import OutOfResources

    kernel, options, args = job
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    dtype = getattr(torch, args.dtype)
    table, kind = TABLES[kernel][0], _kind(kernel, dtype)
    current, table[kind] = table[kind], options
    run, inputs, expected = make_case(kernel, dtype, args.neighbours)
    out = torch.full(expected.shape, float("nan"), dtype=dtype, device="cuda")
    out = out.contiguous(memory_format=torch.channels_last)
    try:
        run(*inputs, out)
    except (OutOfResources, RuntimeError) as error:
        return options, str(error).splitlines()[0]
    finally:
        table[kind] = current  # the other kernel of an operator is checked as it is in use
    error = timing.largest_error(out, [expected])
    return options, "" if error <= TOLERANCE[kind] else f"wrong, error {error:.1e}"


def tune(kernel: str, args: argparse.Namespace, pool) -> None:
    table, candidates = TABLES[kernel]
    dtype = getattr(torch, args.dtype)
    kind = _kind(kernel, dtype)
    current = table[kind]
    candidates = [current, *(c for c in candidates if c != current)]
    right = []
    for options, problem in pool.imap_unordered(prepare, [(kernel, c, args) for c in candidates]):
        if problem:
            print(f"{kernel}: {options}: {problem[:70]}")
        else:
            right.append(options)
    run, inputs, expected = make_case(kernel, dtype, args.neighbours)
    out = torch.empty_like(expected, dtype=dtype, memory_format=torch.channels_last)
    times: dict[tuple, list[float]] = {options: [] for options in right}
    for turn in range(args.rounds + 1):
        for options in right:
            table[kind] = options
            milliseconds = timing.clock(run, [*inputs, out])
            if turn:  # the first round loads
                times[options].append(milliseconds)
    table[kind] = current
    print(f"{kernel}, {args.dtype}{' (TF32)' if args.tf32 else ''}, {args.neighbours} neighbours")
    results = {options: timing.Timing(t, 0.0) for options, t in times.items()}
    ranked = sorted(results.items(), key=lambda item: item[1].median)
    shown = [x for n, x in enumerate(ranked) if n < args.top or x[0] == current]
    for options, result in shown:
        mark = "  (in use)" if options == current else ""
        print(f"  {options!s:32}{1e3 * result.median:9.1f} us +- {1e3 * result.spread:.1f}{mark}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--tf32", action="store_true", help="allow TF32 matrix products")
    parser.add_argument("--neighbours", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--top", type=int, default=8, help="configurations to print")
    parser.add_argument("--workers", type=int, default=8, help="processes that compile")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this needs a CUDA GPU")
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    print(torch.cuda.get_device_name())
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for kernel in args.kernels:
            tune(kernel, args, pool)


if __name__ == "__main__":
    main()
