"""Bilinear warping of features by a flow field (Eq. 1), exact for whole-cell flows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .pixels import PixelMajor, accumulation_type
from .sampling import (
    bilinear_corners,
    grad_vectors,
    inner_products,
    weighted_vectors,
    write_vectors,
)


def flow_warp(x: Tensor, flow: Tensor) -> Tensor:
    """Sample x at p + flow(p) with bilinear weights, zeros outside of the map (Eq. 1).

    Coordinates are cells and never leave them, so zero flow is the exact identity and a
    whole-cell flow an exact shift; a normalised sampling grid rounds and is neither. They are kept
    in float32 (float64 for float64) whatever the input type. Channels-last input is the fast case.

    Args:
        x: features [N, C, H, W].
        flow: displacements [N, 2, H, W] in cells; channel 0 is dx, channel 1 is dy.

    Returns:
        [N, C, H, W] in the type and memory format of x. Differentiable once in x and flow; at
        whole-cell flows the derivative to the flow is the one towards larger coordinates.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes or devices do not agree.
    """
    for name, value in (("x", x), ("flow", flow)):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"{name} must be a floating-point tensor, got {kind}")
    if x.dim() != 4:
        raise ValueError(f"x must have shape [N, C, H, W], got {tuple(x.shape)}")
    if flow.shape != (x.shape[0], 2, *x.shape[2:]):
        raise ValueError(
            f"flow must have shape [N, 2, H, W] = {(x.shape[0], 2, *x.shape[2:])} for features "
            f"{tuple(x.shape)}, got {tuple(flow.shape)}"
        )
    if x.device != flow.device:
        raise ValueError(f"x and flow must be on one device, got {x.device} and {flow.device}")
    if x.numel() == 0:
        return x + flow.sum() * 0  # keeps both in the graph
    if torch.is_grad_enabled() and (x.requires_grad or flow.requires_grad):
        return _Sample.apply(x, *_corners(x, flow))
    return _warp(x, flow)


def _corners(x: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    return bilinear_corners(flow.to(accumulation_type(x.dtype, flow.dtype)))


# One operator, so that an exported program holds neither its loop nor the number of samples.
@torch.library.custom_op("iff_detectron2::flow_warp", mutates_args=(), device_types=("cpu", "cuda"))
def _warp(x: Tensor, flow: Tensor) -> Tensor:
    return _sample(x, *_corners(x, flow))


@_warp.register_fake
def _(x: Tensor, flow: Tensor) -> Tensor:
    return torch.empty_like(x)


def resize_flow(flow: Tensor, size: tuple[int, int], scale: float) -> Tensor:
    """Carry a flow to another map of the same image: sampled bilinearly, in cells of that map.

    Strides say where its cells lie, and not the sizes of the maps, which are rounded up.

    Args:
        flow: displacements [N, 2, H, W] in cells; channel 0 is dx, channel 1 is dy.
        size: height and width of the new map.
        scale: cells of the new map per cell of the old one: old stride / new stride.

    Returns:
        [N, 2, *size] in the type of `flow`, beyond its last cells as it ends there; `flow` itself
        where nothing changes.

    Raises:
        ValueError: flow has another shape, or a size or the scale is not positive.
    """
    if flow.dim() != 4 or flow.shape[1] != 2:
        raise ValueError(f"flow must have shape [N, 2, H, W], got {tuple(flow.shape)}")
    if min(*flow.shape[2:], *size) < 1 or scale <= 0:
        raise ValueError(
            f"cannot resize a flow from {tuple(flow.shape[2:])} to {tuple(size)} cells, "
            f"{scale} new ones per old one"
        )
    if tuple(flow.shape[2:]) == tuple(size) and scale == 1:
        return flow
    dtype = accumulation_type(flow.dtype)
    out = flow.to(dtype)
    for dim, cells in zip((2, 3), size, strict=True):
        # Cell k covers [k, k + 1): its centre, in cells of the old map.
        last = flow.shape[dim] - 1
        place = (torch.arange(cells, dtype=dtype, device=flow.device) + 0.5) / scale - 0.5
        place = place.clamp(0, last)
        low = place.floor()
        share = (place - low).view(-1, *[1] * (3 - dim))
        index = low.long()
        first, second = out.index_select(dim, index), (index + 1).clamp(max=last)
        out = first + share * (out.index_select(dim, second) - first)
    return (out * scale).to(flow.dtype)


def _sample(x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sum weighted feature vectors, one sample at a time so that work stays in the cache."""
    out = torch.empty_like(x)
    source = PixelMajor(weight.dtype)
    for n in range(x.shape[0]):
        rows = source(x[n]).flatten(0, 1)
        write_vectors(weighted_vectors(rows, index[n], weight[n]), out[n])
    return out


class _Sample(torch.autograd.Function):
    """`_sample` with its gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, index, weight)
        return _sample(x, index, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, index, weight = ctx.saved_tensors
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[2] else None
        source, incoming = PixelMajor(weight.dtype), PixelMajor(weight.dtype)
        for n in range(x.shape[0]):
            grad_out = incoming(grad[n]).flatten(0, 1)
            if grad_x is not None:
                write_vectors(grad_vectors(grad_out, index[n], weight[n]), grad_x[n])
            if grad_weight is not None:
                rows = source(x[n]).flatten(0, 1)
                grad_weight[n] = inner_products(rows, index[n], grad_out)
        return grad_x, None, grad_weight
