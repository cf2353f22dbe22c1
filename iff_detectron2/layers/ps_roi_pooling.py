"""Position-sensitive RoI pooling by the rule of R-FCN, from a summed-area table."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# R-FCN widens a smaller RoI to this many cells.
_MIN_ROI_CELLS = 0.1


def ps_roi_pool(x: Tensor, rois: Tensor, output_size: int, spatial_scale: float) -> Tensor:
    """Averages, for each of k x k bins of a RoI, the score map that belongs to the bin (R-FCN).

    A RoI reaches from round(x1) * scale to (round(x2) + 1) * scale, at least 0.1 cells; round is
    C's (halves away from zero). Bin p of k reads the cells from the floor of its start to the ceil
    of its end, clamped to the map; a bin that covers no cell is 0. Bin edges are found exactly
    for scales that are powers of two: R-FCN's float32 code may read one cell more where an edge
    falls on a cell border. Sums are float64.

    Args:
        x: score maps [B, C * k * k, H, W]; channel (c * k + ph) * k + pw serves bin (ph, pw) of c.
        rois: [R, 5], batch index and x1, y1, x2, y2 in image pixels. R may be 0.
        output_size: k, bins a side.
        spatial_scale: cells per image pixel, 1/16 for a stride of 16.

    Returns:
        [R, C, k, k] in the type of x. Differentiable in x, not in the RoIs.

    Raises:
        TypeError: x is no floating-point tensor or output_size no int.
        ValueError: shapes, devices or values do not fit (batch index, non-finite coordinate: CPU
            only, where looking costs no synchronisation).
    """
    _check(x, rois, output_size, spatial_scale)
    height, width = x.shape[2:]
    bins = output_size * output_size
    rois = rois.detach().to(torch.float64)
    top, bottom = _bin_edges(rois[:, 2], rois[:, 4], output_size, spatial_scale, height)
    left, right = _bin_edges(rois[:, 1], rois[:, 3], output_size, spatial_scale, width)
    top, bottom = top[:, :, None], bottom[:, :, None]
    left, right = left[:, None, :], right[:, None, :]
    area = ((bottom - top) * (right - left)).reshape(-1, 1)

    plane = torch.arange(bins, device=x.device).view(output_size, output_size)
    plane = rois[:, 0].long()[:, None, None] * bins + plane

    def corner(row: Tensor, column: Tensor) -> Tensor:
        return ((plane * (height + 1) + row) * (width + 1) + column).flatten()

    added = torch.cat((corner(bottom, right), corner(top, left)))
    subtracted = torch.cat((corner(top, right), corner(bottom, left)))
    # A bin without a cell has two equal edges: its corners cancel to exactly zero.
    rectangles = added, subtracted, area.clamp(min=1)
    wants_grad = torch.is_grad_enabled() and x.requires_grad
    # A function with a gradient of its own cannot be traced.
    pooled = (_BinMeans.apply if wants_grad else _bin_means)(x, bins, *rectangles)
    return (
        pooled.view(-1, output_size, output_size, pooled.shape[1]).permute(0, 3, 1, 2).contiguous()
    )


def _bin_means(x: Tensor, bins: int, added: Tensor, subtracted: Tensor, area: Tensor) -> Tensor:
    """Return the means over rectangles of cells, four table entries each: [rectangles, C]."""
    table = _table(x.shape, bins, x.device)
    table[:, :, 1:, 1:] = x.unflatten(1, (-1, bins)).permute(0, 2, 3, 4, 1)
    sums = table.cumsum_(2).cumsum_(3).flatten(0, 3)
    total = sums.index_select(0, added) - sums.index_select(0, subtracted)
    return total.unflatten(0, (2, -1)).sum(0).div_(area).to(x.dtype)


class _BinMeans(torch.autograd.Function):
    """`_bin_means` with its gradient."""

    @staticmethod
    def forward(
        ctx, x: Tensor, bins: int, added: Tensor, subtracted: Tensor, area: Tensor
    ) -> Tensor:
        ctx.save_for_backward(added, subtracted, area)
        ctx.shape, ctx.bins = x.shape, bins
        return _bin_means(x, bins, added, subtracted, area)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        added, subtracted, area = ctx.saved_tensors
        share = (grad.double() / area).repeat(2, 1)
        table = _table(ctx.shape, ctx.bins, grad.device)
        sums = table.flatten(0, 3)
        # A cell counts for every corner below and right of it. Entered from the end, those are the
        # corners before it, and an in-place cumulative sum of the reversed table finds them.
        sums.index_add_(0, _reversed(added, ctx.shape), share)
        sums.index_add_(0, _reversed(subtracted, ctx.shape), share, alpha=-1)
        cells = table.cumsum_(2).cumsum_(3)[:, :, :-1, :-1].to(grad.dtype)
        return cells.flip(2, 3).permute(0, 4, 1, 2, 3).flatten(1, 2), None, None, None, None


def _table(shape: torch.Size, bins: int, device: torch.device) -> Tensor:
    """Allocates [B, bins, H+1, W+1, C], whose entry (y, x) sums the cells above y, left of x."""
    batch, channels, height, width = shape
    size = (batch, bins, height + 1, width + 1, channels // bins)
    return torch.zeros(size, dtype=torch.float64, device=device)


def _reversed(entry: Tensor, shape: torch.Size) -> Tensor:
    """Mirrors both the row and the column of table entries."""
    last = (shape[2] + 1) * (shape[3] + 1) - 1
    plane = entry // (last + 1)
    return 2 * plane * (last + 1) + last - entry


def _check(x: Tensor, rois: Tensor, output_size: int, spatial_scale: float) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a floating-point tensor, got {kind}")
    if isinstance(output_size, bool) or not isinstance(output_size, int):
        raise TypeError(f"output_size must be an int, got {output_size!r}")
    if output_size < 1:
        raise ValueError(f"output_size must be at least 1, got {output_size}")
    if not spatial_scale > 0:
        raise ValueError(f"spatial_scale must be positive, got {spatial_scale}")
    if x.dim() != 4 or x.shape[1] == 0 or x.shape[1] % (output_size * output_size) != 0:
        raise ValueError(
            f"x must have shape [B, C * {output_size} * {output_size}, H, W], got {tuple(x.shape)}"
        )
    if not isinstance(rois, Tensor) or rois.dim() != 2 or rois.shape[1] != 5:
        shape = tuple(rois.shape) if isinstance(rois, Tensor) else type(rois).__name__
        raise ValueError(f"rois must have shape [R, 5], got {shape}")
    if x.device != rois.device:
        raise ValueError(f"x and rois must be on one device, got {x.device} and {rois.device}")
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if rois.device.type == "cpu" and not recorded and rois.shape[0]:
        if not bool(rois.isfinite().all()):
            raise ValueError("rois must be finite; clip or drop diverged boxes before pooling")
        low, high = rois[:, 0].min().item(), rois[:, 0].max().item()
        if low < 0 or high >= x.shape[0]:
            raise ValueError(
                f"rois must have a batch index in 0 ... {x.shape[0] - 1}, got {low:g} ... {high:g}"
            )


def _bin_edges(
    first: Tensor, last: Tensor, count: int, scale: float, cells: int
) -> tuple[Tensor, Tensor]:
    """Return first and one-past-last cell of each bin along one axis, int64 [R, count] each."""
    start = _round(first) * scale
    size = ((_round(last) + 1) * scale - start).clamp(min=_MIN_ROI_CELLS)
    # start + p * size / count, over one denominator: edges that are whole cells come out whole. The
    # divisor is a tensor because CUDA multiplies by the rounded reciprocal of a Python number.
    p = torch.arange(count + 1, dtype=start.dtype, device=start.device)
    edges = (start[:, None] * count + p * size[:, None]) / torch.full_like(p, count)
    # clamp before the cast: a far coordinate must not overflow.
    lower = edges[:, :-1].floor().clamp(0, cells).long()
    upper = edges[:, 1:].ceil().clamp(0, cells).long()
    return lower, torch.maximum(lower, upper)


def _round(value: Tensor) -> Tensor:
    """Round to the nearest integer, halves away from zero as C's round does."""
    return torch.copysign((value.abs() + 0.5).floor(), value)
