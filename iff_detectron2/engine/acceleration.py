"""Faster inference: folded norms, memory layout, mixed precision, and torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from iff_detectron2.layers import DeformConv2d
from iff_detectron2.modeling.seam import VideoMixin, image_backbone
from iff_detectron2.modeling.temporal import TemporalAggregation

COMPILE_MODES = ("", "default", "reduce-overhead", "max-autotune")
_WITHOUT_GRAPHS = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}

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
    """A compiled function of tensors that leaves some calls to the plain one.

    A memory plan brings tensors without data; met first, they would keep PyTorch from ever
    compiling.
    """

    def __init__(self, plain: Callable[..., Any], mode: str) -> None:
        self.plain = plain
        self.compiled = torch.compile(plain, dynamic=False, mode=mode)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return (self.compiled if self._takes(args, kwargs) else self.plain)(*args, **kwargs)

    def _takes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return not any(isinstance(x, FakeTensor) for x in tree_leaves((args, kwargs)))


class _CompiledInMidVideo(_Compiled):
    """The fusion of an aggregator, compiled for the whole window of a stream.

    At the ends of a video the end frames stand in for those beyond. Their offsets differ from frame
    to frame, and an aggregator that looks at them would be compiled anew for each.
    """

    def __init__(self, plain: Callable[..., Any], mode: str, temporal: TemporalAggregation) -> None:
        super().__init__(plain, mode)
        self._temporal = temporal

    def _takes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        offsets = kwargs["offsets"]
        whole = len(offsets) > 0 and list(offsets) == list(self._temporal.window.offsets)
        return whole and super()._takes(args, kwargs)


def compile_for_video(model: nn.Module, mode: str) -> None:
    """Compiles the backbone, the encoders and the fusion of a model in place, for inference.

    Each size of frames, each number of videos in a batch and each length of the window is compiled
    anew, until PyTorch has had enough of it (8 times) and runs others as they are. A second call
    for the same model does nothing. Copies of the model made afterwards would still run the
    original's compiled parts.

    Modes with CUDA graphs use them for backbone and encoders alone: before it replays a graph,
    PyTorch copies what the graph reads to a fixed place, and what fusion reads are the codes of the
    whole window.

    Args:
        model: plain or video detector.
        mode: of torch.compile, one of `COMPILE_MODES` that is not empty.
    """
    _replace(image_backbone(model), "forward", partial(_Compiled, mode=mode))
    if isinstance(model, VideoMixin):
        temporal, fusion_mode = model.temporal, _WITHOUT_GRAPHS.get(mode, mode)
        in_mid_video = partial(_CompiledInMidVideo, mode=fusion_mode, temporal=temporal)
        for aggregator in temporal.aggregators.values():
            _replace(aggregator, "encode", partial(_Compiled, mode=mode))
            _replace(aggregator, "forward", in_mid_video)


def _replace(module: Any, name: str, compiled: Callable[[Callable[..., Any]], _Compiled]) -> None:
    """Put a compiled function in place of a module's, unless that was done before."""
    plain = getattr(module, name)
    if not isinstance(plain, _Compiled):
        setattr(module, name, compiled(plain))
