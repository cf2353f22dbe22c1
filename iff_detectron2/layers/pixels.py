"""Feature vectors laid one after another in memory, the layout that the operators work on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class PixelMajor:
    """Turns samples [C, H, W] into [H, W, C] of one type, in one reused buffer."""

    def __init__(self, dtype: torch.dtype, *, rows_apart: bool = False) -> None:
        """
        Args:
            dtype: type of the result.
            rows_apart: the result need not be contiguous if the channels of each pixel are.
        """
        self._dtype = dtype
        self._rows_apart = rows_apart
        self._buffer: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return [H, W, C]: x itself if it lies so, else a copy valid until the next call."""
        pixels = x.permute(1, 2, 0)
        lies_so = pixels.stride(2) == 1 if self._rows_apart else pixels.is_contiguous()
        if pixels.dtype == self._dtype and lies_so:
            return pixels
        size = pixels.numel()
        if self._buffer is None or self._buffer.numel() < size:
            self._buffer = torch.empty(size, dtype=self._dtype, device=x.device)
        return self._buffer[:size].view(pixels.shape).copy_(pixels)


def layout_of(x: Tensor) -> torch.memory_format:
    """Return the memory format of [N, C, H, W]; where both fit, as for one channel, the contiguous
    one."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format


def empty_map(like: Tensor, batch: int, channels: int) -> Tensor:
    """Allocates [batch, channels, H, W] in the type, device and memory format of `like`.

    Args:
        like: [., ., H, W].
        batch: maps to allocate.
        channels: of each.
    """
    shape = (batch, channels, *like.shape[2:])
    # Not new_empty, which knows no memory format.
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout_of(like))


def join_samples(parts: Tensor | Sequence[Tensor]) -> Tensor:
    """Sample [n, ...] of all parts as one tensor; what is one tensor already is not copied."""
    if isinstance(parts, Tensor):
        return parts
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))


def accumulation_type(*dtypes: torch.dtype) -> torch.dtype:
    """Return float64 if any of the types is float64, else float32."""
    return torch.float64 if torch.float64 in dtypes else torch.float32
