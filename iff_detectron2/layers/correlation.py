"""Local correlation of two feature maps (the cost volume of Eq. 2), differentiable to any order."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from . import correlation_matmul
from .backend import use_triton
from .pixels import empty_map


def local_correlation(
    x1: Tensor, x2: Tensor, max_displacement: int = 10, stride: int = 2
) -> Tensor:
    """Correlates each location of x1 with the displaced locations of x2 (Eq. 2 of the paper).

    out[n, (i * P) + j, y, x] = <x1[n, :, y, x], x2[n, :, y + dy, x + dx]> / C with
    dy = i * stride - max_displacement, dx = j * stride - max_displacement and
    P = 2 * max_displacement / stride + 1. Locations outside of x2 count as zero. Products are
    summed and scaled in float32 (float64 for float64), then rounded once to the input type.

    The same displacements go by other numbers elsewhere: (max_displacement=10, stride=2) is
    patch_size=11, dilation_patch=2 of spatial-correlation-sampler, max_displacement=5,
    dilation_patch=2 of mmcv, and pad_size=10, max_displacement=10, stride2=2 of FlowNet2's
    package; of these only the last divides by C as well.

    Args:
        x1: key features [N, C, H, W], or [1, C, H, W] to share one key among the N samples of x2
            (nothing is copied, and its gradient is the sum over the samples).
        x2: neighbour features [N, C, H, W] of x1's type and device. N may be 0. The result is
            channels-last if x2 is.
        max_displacement: largest displacement, in cells; a multiple of `stride`.
        stride: step between displacements, in cells.

    Returns:
        [N, P * P, H, W] of the input's type; dy is the outer, dx the inner index.

    Raises:
        TypeError: an input is no floating-point tensor, the types differ, or a displacement
            argument is no int.
        ValueError: shapes or devices do not agree, C is 0, or the displacements are out of range.
    """
    _check(x1, x2, max_displacement, stride)
    return _correlation(x1, x2, max_displacement, stride)


def _check(x1: Tensor, x2: Tensor, max_displacement: int, stride: int) -> None:
    for name, value in (("max_displacement", max_displacement), ("stride", stride)):
        if isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
            raise TypeError(f"{name} must be an int, got {value!r}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    if max_displacement < 0:
        raise ValueError(f"max_displacement must not be negative, got {max_displacement}")
    if max_displacement % stride != 0:
        raise ValueError(
            f"max_displacement must be a multiple of stride, got max_displacement="
            f"{max_displacement} and stride={stride}"
        )
    for name, x in (("x1", x1), ("x2", x2)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
        if not x.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {x.dtype}")
        if x.dim() != 4:
            raise ValueError(f"{name} must have shape [N, C, H, W], got {tuple(x.shape)}")
    if x1.dtype != x2.dtype:
        raise TypeError(f"x1 and x2 must have one type, got {x1.dtype} and {x2.dtype}")
    if x1.device != x2.device:
        raise ValueError(f"x1 and x2 must be on one device, got {x1.device} and {x2.device}")
    if x1.shape[1:] != x2.shape[1:] or x1.shape[0] not in (1, x2.shape[0]):
        raise ValueError(
            "x1 must have the shape of x2, or batch size 1 and otherwise the shape of x2; got "
            f"{tuple(x1.shape)} and {tuple(x2.shape)}"
        )
    if x1.shape[1] == 0:
        raise ValueError(f"x1 and x2 must have at least one channel, got {tuple(x1.shape)}")


def _implementation(x: Tensor) -> ModuleType:
    """Return the module whose functions compute the operators for tensors like x."""
    if use_triton(x):
        from iff_detectron2.kernels import correlation as kernels

        return kernels
    return correlation_matmul


def _side(max_displacement: int, stride: int) -> int:
    return 2 * (max_displacement // stride) + 1


# The three operators are closed under differentiation: each is linear in both of its tensors, and
# the gradients of each are the other two. Double backward and beyond need nothing more.


@torch.library.custom_op(
    "iff_detectron2::local_correlation", mutates_args=(), device_types=("cpu", "cuda")
)
def _correlation(x1: Tensor, x2: Tensor, max_displacement: int, stride: int) -> Tensor:
    out = empty_map(x2, x2.shape[0], _side(max_displacement, stride) ** 2)
    _implementation(x2).correlate(x1, x2, out, max_displacement // stride, stride)
    return out


@torch.library.custom_op(
    "iff_detectron2::local_correlation_grad1", mutates_args=(), device_types=("cpu", "cuda")
)
def _correlation_grad1(
    grad: Tensor, x2: Tensor, max_displacement: int, stride: int, shared: bool
) -> Tensor:
    """Gradient to x1; `shared`: x1 has batch size 1, its gradient is the sum over the batch."""
    out = empty_map(x2, 1 if shared else x2.shape[0], x2.shape[1])
    _implementation(x2).correlate_grad1(grad, x2, out, max_displacement // stride, stride)
    return out


@torch.library.custom_op(
    "iff_detectron2::local_correlation_grad2", mutates_args=(), device_types=("cpu", "cuda")
)
def _correlation_grad2(grad: Tensor, x1: Tensor, max_displacement: int, stride: int) -> Tensor:
    """Gradient to x2."""
    out = empty_map(x1, grad.shape[0], x1.shape[1])
    _implementation(x1).correlate_grad2(grad, x1, out, max_displacement // stride, stride)
    return out


@_correlation.register_fake
def _(x1: Tensor, x2: Tensor, max_displacement: int, stride: int) -> Tensor:
    return empty_map(x2, x2.shape[0], _side(max_displacement, stride) ** 2)


@_correlation_grad1.register_fake
def _(grad: Tensor, x2: Tensor, max_displacement: int, stride: int, shared: bool) -> Tensor:
    return empty_map(x2, 1 if shared else x2.shape[0], x2.shape[1])


@_correlation_grad2.register_fake
def _(grad: Tensor, x1: Tensor, max_displacement: int, stride: int) -> Tensor:
    return empty_map(x1, grad.shape[0], x1.shape[1])


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])
    ctx.displacements = inputs[2:4]


def _correlation_backward(ctx, grad):
    x1, x2 = ctx.saved_tensors
    grad1 = grad2 = None
    if ctx.needs_input_grad[0]:
        grad1 = _correlation_grad1(grad, x2, *ctx.displacements, x1.shape[0] == 1)
    if ctx.needs_input_grad[1]:
        grad2 = _correlation_grad2(grad, x1, *ctx.displacements)
    return grad1, grad2, None, None


def _correlation_grad1_backward(ctx, grad_x1):
    grad, x2 = ctx.saved_tensors
    grad_grad = grad_x2 = None
    if ctx.needs_input_grad[0]:
        grad_grad = _correlation(grad_x1, x2, *ctx.displacements)
    if ctx.needs_input_grad[1]:
        grad_x2 = _correlation_grad2(grad, grad_x1, *ctx.displacements)
    return grad_grad, grad_x2, None, None, None


def _correlation_grad2_backward(ctx, grad_x2):
    grad, x1 = ctx.saved_tensors
    grad_grad = grad_x1 = None
    if ctx.needs_input_grad[0]:
        grad_grad = _correlation(x1, grad_x2, *ctx.displacements)
    if ctx.needs_input_grad[1]:
        grad_x1 = _correlation_grad1(grad, grad_x2, *ctx.displacements, x1.shape[0] == 1)
    return grad_grad, grad_x1, None, None


_correlation.register_autograd(_correlation_backward, setup_context=_save)
_correlation_grad1.register_autograd(_correlation_grad1_backward, setup_context=_save)
_correlation_grad2.register_autograd(_correlation_grad2_backward, setup_context=_save)
