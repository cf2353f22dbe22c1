"""The state of one video stream: what was computed of its frames and may be needed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import torch

from iff_detectron2.layers.pixels import join_samples

from .aggregation import Codes

FrameCodes = Mapping[str, Codes]
"""Codes of one frame (or several) for each feature map, by the name of the map."""

T = TypeVar("T", bound="FrameMemory")


_DTYPES = {
    "": None,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def build_frame_memory(cfg) -> FrameMemory:
    """Build the memory of a stream as TEST.VIDEO.MEMORY_DTYPE and MEMORY_DEVICE say.

    Raises:
        ValueError: for an unknown type or device.
    """
    dtype, device = cfg.TEST.VIDEO.MEMORY_DTYPE, cfg.TEST.VIDEO.MEMORY_DEVICE
    if dtype not in _DTYPES:
        known = ", ".join(name or "''" for name in _DTYPES)
        raise ValueError(f"TEST.VIDEO.MEMORY_DTYPE must be one of {known}, got {dtype!r}")
    try:
        return FrameMemory(_DTYPES[dtype], torch.device(device) if device else None)
    except RuntimeError as error:
        raise ValueError(
            f"TEST.VIDEO.MEMORY_DEVICE must be '' or a device such as cpu, got {device!r}"
        ) from error


class StackedCodes(Mapping[str, torch.Tensor]):
    """Codes of several frames [T, ., H, W], each name stacked when it is asked for."""

    def __init__(self, parts: dict[str, list[torch.Tensor]]) -> None:
        """
        Args:
            parts: for each name the codes of the frames, [1, ., H, W] each.
        """
        self.parts = parts

    def __getitem__(self, name: str) -> torch.Tensor:
        return join_samples(self.parts[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


class FrameMemory:
    """Codes of the frames of one video, by frame index.

    The memory is the only state that a model keeps between two frames of a stream. It may keep
    codes in a smaller type or on another device than the one they are computed with.

    Attributes:
        video_id: the video whose frames are held; None while empty.
        image_size: height and width in pixels that all its frames have; None while empty.
    """

    def __init__(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        """
        Args:
            dtype: floating-point type in which codes are kept; None for that of the codes.
            device: where they are kept; None for where they are made.
        """
        self.dtype = dtype
        self.device = device
        self.video_id: str | None = None
        self.image_size: tuple[int, int] | None = None
        self._frames: dict[int, FrameCodes] = {}
        # Type and device of the codes before they were stored, by feature map and name.
        self._origin: dict[tuple[str, str], tuple[torch.dtype, torch.device]] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, frame_index: int) -> bool:
        return frame_index in self._frames

    def __deepcopy__(self: T, memo: dict) -> T:
        # A copy of a model starts a stream of its own.
        return type(self)(self.dtype, self.device)

    def start(self, video_id: str, image_size: tuple[int, int]) -> None:
        """Make the memory that of `video_id`, forgetting any other video.

        Raises:
            ValueError: if the size of the frames changes inside the video.
        """
        if self.video_id != video_id:
            self.clear()
        elif self.image_size != image_size:
            raise ValueError(
                f"frames of video {video_id!r} have different sizes: {self.image_size} and then "
                f"{image_size} (height, width); reset the model where the resolution changes"
            )
        self.video_id, self.image_size = video_id, image_size

    def add(self, frame_index: int, codes: FrameCodes) -> None:
        """Keep the codes (batch of 1) of a frame."""
        for level, level_codes in codes.items():
            for name, x in level_codes.items():
                self._origin[level, name] = (x.dtype, x.device)
        self._frames[frame_index] = {
            level: {
                name: x.to(self.device or x.device, self.dtype or x.dtype)
                for name, x in level_codes.items()
            }
            for level, level_codes in codes.items()
        }

    def nbytes(self) -> int:
        """Bytes that the kept codes take."""
        levels = (level for frame in self._frames.values() for level in frame.values())
        return sum(x.numel() * x.element_size() for level in levels for x in level.values())

    def refs(self, frame_indices: Sequence[int], level: str) -> StackedCodes:
        """Codes of frames on one feature map, stacked only when they are asked for.

        Raises:
            KeyError: if a frame is not in the memory.
        """
        frames = [self._frames[index][level] for index in frame_indices]
        parts = {}
        for name in frames[0]:
            dtype, device = self._origin[level, name]
            parts[name] = [frame[name].to(device, dtype) for frame in frames]
        return StackedCodes(parts)

    def gather(self, frame_indices: Sequence[int], level: str | None = None) -> FrameCodes:
        """Stacks the codes of frames along the batch; a frame may be named more than once.

        Args:
            frame_indices: the frames, at least one.
            level: the one feature map that is wanted; None for all.

        Returns:
            The codes in the type and on the device that they were added with.

        Raises:
            KeyError: if a frame is not in the memory.
        """
        frames = [self._frames[index] for index in frame_indices]
        return {
            level: {
                name: self._restored(level, name, [frame[level][name] for frame in frames])
                for name in frames[0][level]
            }
            for level in (frames[0] if level is None else [level])
        }

    def _restored(self, level: str, name: str, parts: list[torch.Tensor]) -> torch.Tensor:
        dtype, device = self._origin[level, name]
        return join_samples(parts).to(device, dtype)

    def forget_before(self, frame_index: int) -> None:
        """Forgets the frames before this one, which no window reaches any more."""
        self._frames = {i: codes for i, codes in self._frames.items() if i >= frame_index}

    def clear(self) -> None:
        """Forgets the video."""
        self.video_id = self.image_size = None
        self._frames.clear()
        self._origin.clear()
