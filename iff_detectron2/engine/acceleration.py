"""Faster inference: folded norms, memory layout, mixed precision, and torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from iff_detectron2.layers import DeformConv2d
from iff_detectron2.modeling.seam import VideoMixin, image_backbone

_FIXED_NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d)
_IN_FLOAT32 = (
    *(F.softmax, torch.softmax, torch.Tensor.softmax),
    *(F.cross_entropy, F.binary_cross_entropy_with_logits),
)


def prepare_for_inference(model: nn.Module) -> nn.Module:
    """Change a model that will not be trained, in place, so that it computes the same faster.

    A norm with fixed statistics behind a convolution becomes part of its weights, so the names of
    the weights are not those of the checkpoint any more. On the CPU weights, and with them the
    maps, are laid out pixel by pixel; on a GPU this is not measured and stays as it is.
    """
    module: Any
    for module in model.eval().modules():
        if _can_fold(module):
            norm = module.norm
            module.weight, module.bias = fuse_conv_bn_weights(
                *(module.weight, module.bias, norm.running_mean, norm.running_var),
                *(norm.eps, norm.weight, norm.bias),
            )
            module.norm = None
    if next(model.parameters()).device.type == "cpu":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _can_fold(module: Any) -> bool:
    """Whether a module is a convolution and then a norm that scales and shifts, and nothing else.

    Known by their very classes: a subclass may do what it likes with its weights or its input, and
    so may a hook.
    """
    if type(module) not in (Conv2d, DeformConv2d) or type(module.norm) not in _FIXED_NORMS:
        return False
    hooked = any(
        part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
        for part in (module, module.norm)
    )
    return module.norm.running_mean is not None and not hooked


class _Float32Classes(TorchFunctionMode):
    """What autocast does on CUDA and not on the CPU: scores and losses of classes in float32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _IN_FLOAT32 and args and args[0].dtype in (torch.float16, torch.bfloat16):
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))


@contextmanager
def mixed_precision(device_type: str, dtype: torch.dtype) -> Iterator[None]:
    """Run convolutions and matrix products in `dtype`, and keep float32 where rounding would tell.

    The operators of iff_detectron2.layers (correlation, cosine, the sum over the frames) turn their
    inputs to float32 themselves; the softmax over classes and its losses get float32 here.
    """
    classes = nullcontext() if device_type == "cuda" else _Float32Classes()
    with torch.autocast(device_type, dtype), classes:
        yield


class _Compiled:
    """A compiled function of tensors that leaves some of them to the plain one.

    A memory plan brings tensors without data; met first, they would keep PyTorch from ever
    compiling.
    """

    def __init__(self, plain: Callable[..., Any]) -> None:
        self.plain = plain
        self.compiled = torch.compile(plain, dynamic=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        planned = any(isinstance(x, FakeTensor) for x in (*args, *kwargs.values()))
        return (self.plain if planned else self.compiled)(*args, **kwargs)


def compile_frame_part(model: nn.Module) -> None:
    """Compiles the backbone and the encoders of a model in place; a second call does nothing.

    Pairs of frames stay as they are: their operators are custom ones, and their number changes at
    the ends of a video. Each size of frames is compiled anew. Copies of the model made afterwards
    would still run the original's compiled part.
    """
    parts: list[tuple[Any, str]] = [(image_backbone(model), "forward")]
    if isinstance(model, VideoMixin):
        aggregators = model.temporal.aggregators
        parts += [(aggregator, "encode") for aggregator in aggregators.values()]
    for module, name in parts:
        if not isinstance(getattr(module, name), _Compiled):
            setattr(module, name, _Compiled(getattr(module, name)))
