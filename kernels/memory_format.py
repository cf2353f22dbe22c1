"""The memory format that all kernels read and write: channels last, one vector a pixel."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """Return `x` itself if it is channels-last, else a copy that is."""
    return x.contiguous(memory_format=torch.channels_last)


def channels_last_target(out: Tensor) -> Tensor:
    """Return `out` itself if a kernel can write it pixel by pixel, else a tensor to copy from."""
    if out.is_contiguous(memory_format=torch.channels_last):
        return out
    return torch.empty_like(out, memory_format=torch.channels_last)
