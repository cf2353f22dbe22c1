"""Which tensors the Triton kernels serve."""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

# Set to "0", the plain PyTorch formulations run on the GPU too: to compare, or around a defect.
KERNELS_VARIABLE = "IFF_DETECTRON2_KERNELS"

_TYPES = (torch.float16, torch.bfloat16, torch.float32)


def use_triton(*tensors: Tensor) -> bool:
    """Return whether Triton kernels take these tensors: CUDA, at most float32, sm_80 or newer."""
    return (
        all(x.device.type == "cuda" and x.dtype in _TYPES for x in tensors)
        and os.environ.get(KERNELS_VARIABLE) != "0"
        and _has_triton()
        and _has_tensor_cores(tensors[0].device)
    )


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _has_tensor_cores(device: torch.device) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)
