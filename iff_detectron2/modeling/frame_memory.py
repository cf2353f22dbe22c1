"""The state of one video stream: what was computed of its frames and may be needed again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch

from .aggregation import Codes

FrameCodes = dict[str, Codes]
"""Codes of one frame (or several) for each feature map, by the name of the map."""

T = TypeVar("T", bound="FrameMemory")


class FrameMemory:
    """Codes of the frames of one video, by frame index.

    The memory is the only state that a model keeps between two frames of a stream.

    Attributes:
        video_id: the video whose frames are held; None while empty.
        image_size: height and width in pixels that all its frames have; None while empty.
    """

    def __init__(self) -> None:
        self.video_id: str | None = None
        self.image_size: tuple[int, int] | None = None
        self._frames: dict[int, FrameCodes] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, frame_index: int) -> bool:
        return frame_index in self._frames

    def __deepcopy__(self: T, memo: dict) -> T:
        # A copy of a model starts a stream of its own.
        return type(self)()

    def start(self, video_id: str, image_size: tuple[int, int]) -> None:
        """Makes the memory that of `video_id`, forgetting any other video.

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
        """Keeps the codes (batch of 1) of a frame."""
        self._frames[frame_index] = codes

    def gather(self, frame_indices: Sequence[int]) -> FrameCodes:
        """Stacks the codes of frames along the batch; a frame may be named more than once.

        Raises:
            KeyError: if a frame is not in the memory.
        """
        frames = [self._frames[index] for index in frame_indices]
        return {
            level: {
                name: torch.cat([frame[level][name] for frame in frames])
                for name in frames[0][level]
            }
            for level in frames[0]
        }

    def keep_only(self, frame_indices: Iterable[int]) -> None:
        """Forgets all frames but the named ones."""
        keep = set(frame_indices)
        self._frames = {index: codes for index, codes in self._frames.items() if index in keep}

    def clear(self) -> None:
        """Forgets the video."""
        self.video_id = self.image_size = None
        self._frames.clear()
