"""Side-by-side timing: interleaved rounds in one process, rotating inputs, an error beside each."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

Function = Callable[..., "Tensor | tuple[Tensor, ...]"]


# What tells the time on a CPU. `time.process_time` counts all threads: for one thread it is its own
# time, without what others took.
host_clock: Callable[[], float] = time.perf_counter


@dataclass
class Timing:
    """Times of one candidate in milliseconds, one a round, and its largest error."""

    milliseconds: list[float]
    error: float

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles."""
        if len(self.milliseconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.milliseconds, n=4)
        return (high - low) / 2


def largest_error(actual: Tensor | tuple[Tensor, ...], expected: Sequence[Tensor]) -> float:
    """Return the largest error relative to the largest expected value, over all tensors."""
    actual = (actual,) if isinstance(actual, Tensor) else actual
    errors = []
    for a, e in zip(actual, expected, strict=True):
        difference = (a.detach().double() - e).abs().max()
        errors.append((difference / e.abs().max().clamp(min=1e-30)).item())
    # NaN compares false with everything: report it as the worst error there is.
    return max(float("inf") if error != error else error for error in errors)


@functools.cache
def _filler(device: torch.device) -> Tensor:
    return torch.empty(1 << 28, device=device, dtype=torch.uint8)


def clock(function: Function, inputs: Sequence[Tensor], with_launch: bool = False) -> float:
    """Return the milliseconds of one call.

    On CUDA it is the time of the device alone: 256 MiB are overwritten many times ahead, some
    milliseconds in all, so that Python has launched everything by the time that the first kernel
    starts, and nothing of the inputs is left in the cache. (Matrix products ahead would heat the
    GPU until it lowers its clock.) `with_launch` counts what Python takes to launch instead.
    """
    if inputs[0].device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        filler = _filler(inputs[0].device)
        for _ in range(1 if with_launch else 30):
            filler.zero_()
        if with_launch:
            torch.cuda.synchronize()
        start.record()
        function(*inputs)
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    before = host_clock()
    function(*inputs)
    return 1e3 * (host_clock() - before)


def first_run(
    function: Function, inputs: Sequence[Tensor], expected: Sequence[Tensor]
) -> Timing | str:
    """Warms a candidate up; returns its error, or the sentence that says why it cannot run."""
    try:
        return Timing([], largest_error(function(*inputs), expected))
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        return f"cannot run: {(str(error) or type(error).__name__).splitlines()[0][:80]}"


def compare(
    candidates: Mapping[str, Function],
    inputs: Sequence[Sequence[Tensor]],
    expected: Sequence[Tensor],
    rounds: int,
    with_launch: bool = False,
) -> dict[str, Timing | str]:
    """Time all candidates in turn, round by round, each round on the next set of inputs.

    Args:
        candidates: functions of the same inputs.
        inputs: sets of inputs to rotate through.
        expected: float64 results for the first set.
        rounds: timed rounds, after one warm-up call that also gives the error.
        with_launch: on CUDA, count the time that Python takes to launch too.

    Returns:
        A Timing for each candidate, or the sentence that says why it cannot run.
    """
    results = {name: first_run(f, inputs[0], expected) for name, f in candidates.items()}
    for turn in range(rounds):
        for name, function in candidates.items():
            timing = results[name]
            if isinstance(timing, Timing):
                timing.milliseconds.append(clock(function, inputs[turn % len(inputs)], with_launch))
    return results


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measures the GFLOP/s of a large square matrix product."""
    size = 2048 if device.type == "cpu" else 8192
    a = torch.randn(size, size, device=device).to(dtype)
    times = [clock(torch.mm, (a, a)) for _ in range(8)]
    return 2 * size**3 / min(times) / 1e6


def copy_bandwidth(device: torch.device) -> float:
    """Measures the GB/s of a large copy, reads and writes together."""
    source = torch.randn((1 << 25) if device.type == "cpu" else (1 << 28), device=device)
    target = torch.empty_like(source)
    times = [clock(target.copy_, (source,)) for _ in range(8)]
    return 2 * source.numel() * source.element_size() / min(times) / 1e6


def reset_peak_memory() -> float:
    """Set this process's peak memory to what it holds now and return that, in MiB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> float:
    """Return this process's peak memory since the last reset, in MiB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM: this measurement needs Linux.")
