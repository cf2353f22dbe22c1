"""Local correlation against what users could pick instead.

    python benchmarks/correlation.py                          # CPU, one pair and forward+backward
    python benchmarks/correlation.py --batch 20               # one key against 20 neighbours
    python benchmarks/correlation.py --device cuda --dtype bfloat16 --batch 20 --channels-last
    python benchmarks/correlation.py --device cuda --batch 2 --with-launch
    python benchmarks/correlation.py --memory                 # added memory on the CPU

Peers that are not installed are named and left out: spatial-correlation-sampler, and on a GPU
localcorr. A result that is wrong gets no time.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable

import timing
import torch
import torch.nn.functional as F
from torch import Tensor

from iff_detectron2.layers import backend, local_correlation

DISPLACEMENT, STRIDE = 10, 2
RADIUS = DISPLACEMENT // STRIDE
SIDE = 2 * RADIUS + 1

# Largest error of a right result, relative to the largest entry: a few roundings of the type, for
# peers that accumulate in it. TF32 counts as float32 with its own bound.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}
TF32_TOLERANCE = 3e-3


def shift_loop(x1: Tensor, x2: Tensor) -> Tensor:
    """One shifted product for each displacement."""
    height, width = x2.shape[2:]
    padded = F.pad(x2, (DISPLACEMENT,) * 4)
    shifts = range(0, 2 * DISPLACEMENT + 1, STRIDE)
    maps = [
        (x1 * padded[:, :, y : y + height, x : x + width]).mean(1) for y in shifts for x in shifts
    ]
    return torch.stack(maps, 1)


def all_pairs(x1: Tensor, x2: Tensor) -> Tensor:
    """All inner products of two maps as one matrix product, then a gather of the wanted ones."""
    batch, channels, height, width = x2.shape
    padded_width = width + 2 * DISPLACEMENT
    padded = F.pad(x2, (DISPLACEMENT,) * 4).flatten(2)
    volume = torch.matmul(x1.flatten(2).transpose(1, 2), padded) / channels
    shifts = torch.arange(0, 2 * DISPLACEMENT + 1, STRIDE, device=x1.device)
    rows, columns = torch.arange(height, device=x1.device), torch.arange(width, device=x1.device)
    corner = (rows[:, None] * padded_width + columns).flatten()
    index = corner[:, None] + (shifts[:, None] * padded_width + shifts).flatten()
    picked = volume.gather(2, index.expand(batch, -1, -1))
    return picked.transpose(1, 2).unflatten(2, (height, width))


def phase_split(x1: Tensor, x2: Tensor) -> Tensor:
    """Return the matrix formulation with whole rows and native types, one product a row for all
    samples.

    On a GPU this is what cuBLAS does without a kernel of one's own.
    """
    batch, channels, height, width = x2.shape
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    padding = (0, STRIDE * columns - width, 0, STRIDE * rows - height)
    window = columns + 2 * RADIUS

    def phases(x: Tensor) -> Tensor:
        x = F.pad(x, padding).permute(0, 2, 3, 1)
        x = x.unflatten(2, (columns, STRIDE)).unflatten(1, (rows, STRIDE))
        return x.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # [N, s * s, rows, columns, C]

    a = phases(x1).expand(batch, -1, -1, -1, -1).flatten(0, 1)
    b = F.pad(phases(x2).flatten(0, 1), (0, 0, RADIUS, RADIUS, RADIUS, RADIUS))
    product = [
        torch.bmm(a[:, row], b[:, row : row + SIDE].flatten(1, 2).transpose(1, 2))
        for row in range(rows)
    ]
    volume = torch.stack(product, 1)  # [N * s * s, rows, columns, SIDE * window]
    row = SIDE * window
    band = volume.as_strided(
        (volume.shape[0], rows, columns, SIDE, SIDE),
        (rows * columns * row, columns * row, row + 1, window, 1),
    )
    band = band.reshape(batch, STRIDE, STRIDE, rows, columns, SIDE**2).permute(0, 5, 3, 1, 4, 2)
    full = band.reshape(batch, SIDE**2, STRIDE * rows, STRIDE * columns)
    return full[:, :, :height, :width] / channels


def candidates(device: str) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return the formulations that can run here; says which are missing."""
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ours": local_correlation}
    if device == "cuda":
        found["ours without Triton"] = without_kernels
    found["phase split, whole rows"] = phase_split
    found["all pairs + gather"] = all_pairs
    found["121-shift loop"] = shift_loop
    if importlib.util.find_spec("spatial_correlation_sampler"):
        from spatial_correlation_sampler import spatial_correlation_sample

        def sampler(x1: Tensor, x2: Tensor) -> Tensor:
            x1, x2 = x1.expand(x2.shape[0], -1, -1, -1).contiguous(), x2.contiguous()
            out = spatial_correlation_sample(x1, x2, patch_size=SIDE, dilation_patch=STRIDE)
            return out.flatten(1, 2) / x2.shape[1]

        found["spatial-correlation-sampler"] = sampler
    else:
        print("not installed, left out: spatial-correlation-sampler")
    if device == "cuda":
        if importlib.util.find_spec("localcorr"):
            from localcorr import get_localcorr_sampler

            sample = get_localcorr_sampler(SIDE, STRIDE, "localcorr_triton")

            def triton_sampler(x1: Tensor, x2: Tensor) -> Tensor:
                x1 = x1.expand(x2.shape[0], -1, -1, -1).contiguous()
                return sample(x1, x2.contiguous()).flatten(1, -3) / x2.shape[1]

            found["localcorr (Triton)"] = triton_sampler
        else:
            print("not installed, left out: localcorr")
    return found


def without_kernels(x1: Tensor, x2: Tensor) -> Tensor:
    """Our operator with the Triton kernels switched off."""
    os.environ[backend.KERNELS_VARIABLE] = "0"
    try:
        return local_correlation(x1, x2)
    finally:
        del os.environ[backend.KERNELS_VARIABLE]


def with_gradients(function: Callable[[Tensor, Tensor], Tensor]) -> timing.Function:
    """Return result and gradients to both maps, for a given gradient of the result."""

    def run(x1: Tensor, x2: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        x1, x2 = x1.detach().requires_grad_(), x2.detach().requires_grad_()
        out = function(x1, x2)
        return (out.detach(), *torch.autograd.grad(out, (x1, x2), weights))

    return run


def make_inputs(args: argparse.Namespace, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        x = torch.randn(shape, generator=generator).to(args.device, getattr(torch, args.dtype))
        return x.contiguous(memory_format=torch.channels_last) if args.channels_last else x

    size = (args.height, args.width)
    return [
        normal(1, args.channels, *size),
        normal(args.batch, args.channels, *size),
        normal(args.batch, SIDE**2, *size),
    ]


def report(args: argparse.Namespace, functions: dict, backward: bool) -> None:
    dtype = getattr(torch, args.dtype)
    inputs = [make_inputs(args, seed) for seed in range(args.sets)]
    exact = [x.double() for x in inputs[0]]
    if backward:
        expected = list(with_gradients(local_correlation_matmul)(*exact))
        functions = {name: with_gradients(function) for name, function in functions.items()}
    else:
        inputs = [pair[:2] for pair in inputs]
        expected = [local_correlation_matmul(*exact[:2])]
    results = timing.compare(functions, inputs, expected, args.rounds, args.with_launch)

    device = torch.device(args.device)
    pixels = args.height * args.width
    flop = (3 if backward else 1) * 2 * args.batch * args.channels * pixels * SIDE**2
    element = inputs[0][0].element_size()
    moved = element * pixels * ((1 + args.batch) * args.channels + args.batch * SIDE**2)
    moved *= (
        2 if backward else 1
    )  # backward: maps and gradient in, two gradients out, about as much
    peak, bandwidth = timing.matmul_peak(device, dtype), timing.copy_bandwidth(device)
    floor = moved / bandwidth / 1e6
    tolerance = TOLERANCE[dtype]
    if dtype == torch.float32 and device.type == "cuda" and args.tf32:
        tolerance = TF32_TOLERANCE
    what = "forward + backward" if backward else "forward"
    print(
        f"\n{what}, one key and {args.batch} neighbour(s), {args.channels} x {args.height} x "
        f"{args.width}, {args.dtype}; matrix product {peak:.0f} GFLOP/s, "
        f"copy {bandwidth:.0f} GB/s, memory floor {floor:.3f} ms"
    )
    print(f"{'':30}{'median ms':>11}{'min':>10}{'+-':>8}{'x ours':>8}{'GFLOP/s':>9}", end="")
    print(f"{'of peak':>9}{'x floor':>9}{'error':>10}")
    ours = results["ours"]
    for name, result in results.items():
        if isinstance(result, str):
            print(f"{name:30}{result}")
        elif result.error > tolerance:
            print(f"{name:30}WRONG: error {result.error:.1e}, more than {tolerance:.0e}; no time")
        else:
            rate = flop / result.median / 1e6
            # The best round beside the best product: on a machine that others use, too, both are
            # those that nobody disturbed.
            share = flop / min(result.milliseconds) / 1e6 / peak
            times_ours = result.median / ours.median if isinstance(ours, timing.Timing) else 0
            print(
                f"{name:30}{result.median:11.3f}{min(result.milliseconds):10.3f}"
                f"{result.spread:8.3f}{times_ours:8.2f}{rate:9.0f}{share:9.1%}"
                f"{result.median / floor:9.1f}{result.error:10.1e}"
            )


def local_correlation_matmul(x1: Tensor, x2: Tensor) -> Tensor:
    """Return the float64 oracle; tests hold it against a plain loop."""
    assert x1.dtype == torch.float64
    return local_correlation(x1, x2)


def added_memory(name: str, backward: bool, argv: argparse.Namespace, queue) -> None:
    """Put the MiB that one call adds to the peak of a fresh process."""
    torch.set_num_threads(argv.threads)
    function = candidates("cpu")[name]
    inputs = make_inputs(argv, 0)
    small = [x[:, :, :4, :4] for x in inputs]
    run = with_gradients(function) if backward else lambda x1, x2, _: function(x1, x2)
    run(*small)  # loads libraries
    before = timing.reset_peak_memory()
    run(*inputs)
    queue.put(timing.peak_memory() - before)


def report_memory(args: argparse.Namespace) -> None:
    context = multiprocessing.get_context("spawn")
    print(f"{'added peak memory, MiB':30}{'forward':>10}{'+ backward':>12}")
    for name in candidates("cpu"):
        cells = []
        for backward in (False, True):
            queue = context.Queue()
            process = context.Process(target=added_memory, args=(name, backward, args, queue))
            process.start()
            cells.append(queue.get(timeout=600))
            process.join()
        print(f"{name:30}{cells[0]:10.1f}{cells[1]:12.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--batch", type=int, default=1, help="neighbours of the one key")
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--height", type=int, default=38)
    parser.add_argument("--width", type=int, default=63)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sets", type=int, default=3, help="sets of inputs to rotate through")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="on a CPU that others use, too: one thread, and no time that they take",
    )
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--tf32", action="store_true", help="allow TF32 matrix products")
    parser.add_argument(
        "--with-launch", action="store_true", help="on a GPU, count what Python takes to launch"
    )
    parser.add_argument("--forward-only", action="store_true")
    parser.add_argument("--only", nargs="+", help="names of the candidates to run beside ours")
    parser.add_argument("--memory", action="store_true", help="report added memory (CPU) instead")
    args = parser.parse_args()
    if args.processor_time:
        args.threads, timing.host_clock = 1, time.process_time
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    if args.memory:
        report_memory(args)
        return
    functions = candidates(args.device)
    if args.only:
        functions = {n: f for n, f in functions.items() if n == "ours" or n in args.only}
    with torch.no_grad():
        report(args, functions, backward=False)
    if not args.forward_only:
        report(args, functions, backward=True)


if __name__ == "__main__":
    main()
