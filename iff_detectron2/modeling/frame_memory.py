"""The state of one video stream: what was computed of its frames and may be needed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from iff_detectron2.layers.pixels import join_samples, layout_of

from .codes import Codes, CodesOfBranch, CodesOfFrames, FrameCodes, StackedCodes

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


class WeightsMark:
    """Notes the weights of a model, to tell later whether they are still the same.

    Seen is what replaces a tensor or writes into it, as optimizers and checkpoints do; not what
    writes through `.data`.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        # The dictionaries, not what is in them, which may be replaced.
        self._tensors = [own for m in modules for own in (m._parameters, m._buffers) if own]
        self._seen = self._now()

    def _now(self) -> list[tuple[int, int, int]]:
        return [
            (id(x), x.data_ptr(), 0 if x.is_inference() else x._version)
            for own in self._tensors
            for x in own.values()
            if x is not None
        ]

    def holds(self) -> bool:
        """Whether the weights are those that were noted."""
        return self._now() == self._seen


class FrameMemory:
    """Codes of the frames of one video, by frame index.

    The memory is the only state that a model keeps between two frames of a stream. It may keep
    codes in a smaller type or on another device than the one they are computed with. A copy, also
    one by pickle, is empty: it starts a stream of its own.

    Attributes:
        video_id: the video whose frames are held; None while empty.
        image_size: height and width in pixels that all its frames have; None while empty.
        last_key: the last key frame that was detected in; None before the first.
        layouts: memory format of each feature map as the backbone made it.
        branches: maps of each kind that the backbone made per frame.
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
        self.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.dtype, self.device)

    def clear(self) -> None:
        """Forget the video."""
        self.video_id: str | None = None
        self.image_size: tuple[int, int] | None = None
        self.last_key: int | None = None
        self.layouts: dict[str, torch.memory_format] = {}
        self.branches = 1
        self._weights: WeightsMark | None = None
        self._frames: dict[int, FrameCodes] = {}
        # Type and device of the codes before they were stored, by feature map and name.
        self._origin: dict[tuple[str, str], tuple[torch.dtype, torch.device]] = {}

    def snapshot(self) -> FrameMemory:
        """Return the memory as it is now, sharing its codes, for `restore`."""
        now = FrameMemory(self.dtype, self.device)
        now.__dict__.update({name: copy(value) for name, value in vars(self).items()})
        return now

    def restore(self, snapshot: FrameMemory) -> None:
        """Become again what the memory was when the snapshot was taken."""
        self.__dict__.update(vars(snapshot))

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, frame_index: int) -> bool:
        return frame_index in self._frames

    @property
    def newest(self) -> int | None:
        """The last frame that is held; None while empty."""
        return max(self._frames, default=None)

    def start(
        self,
        video_id: str,
        image_size: tuple[int, int],
        mark: Callable[[], WeightsMark] | None = None,
    ) -> None:
        """Make the memory that of `video_id`, forgetting any other video.

        Args:
            video_id: name of the video.
            image_size: height and width of its frames in pixels.
            mark: notes the weights that its frames are encoded with.

        Raises:
            ValueError: if the size of the frames or the weights change inside the video.
        """
        if self.video_id != video_id:
            self.clear()
        elif self.image_size != image_size:
            raise ValueError(
                f"frames of video {video_id!r} have different sizes: {self.image_size} and then "
                f"{image_size} (height, width); reset the model where the resolution changes"
            )
        elif self._weights is not None and not self._weights.holds():
            raise ValueError(
                f"the weights of the model changed in the middle of video {video_id!r}, whose "
                "frames so far were encoded with the old ones; reset and start the video again"
            )
        if self.video_id is None and mark is not None:
            self._weights = mark()
        self.video_id, self.image_size = video_id, image_size

    def add(self, frame_index: int, codes: FrameCodes) -> None:
        """Keep the codes of a frame, without what they were computed from.

        Args:
            frame_index: the frame.
            codes: a batch of 1, or of as many as the backbone makes maps of each kind per image.
        """
        for level, level_codes in codes.items():
            self.layouts[level] = layout_of(level_codes["feature"])
            self.branches = len(level_codes["feature"])
            for name, x in level_codes.items():
                self._origin[level, name] = (x.dtype, x.device)
        self._frames[frame_index] = {
            level: {name: self._kept(x) for name, x in level_codes.items()}
            for level, level_codes in codes.items()
        }

    def _kept(self, x: Tensor) -> Tensor:
        # Pixel by pixel, as the operators on pairs want it: laid so once per frame here, and not
        # for every key frame that this one is a reference of.
        layout = torch.channels_last if x.dim() == 4 else torch.preserve_format
        alone = x.detach().clone(memory_format=layout)
        return alone.to(self.device or x.device, self.dtype or x.dtype)

    def nbytes(self) -> int:
        """Bytes that the kept codes take."""
        levels = (level for frame in self._frames.values() for level in frame.values())
        return sum(x.numel() * x.element_size() for level in levels for x in level.values())

    def refs(self, frame_indices: Sequence[int], level: str) -> Codes:
        """Return the codes of frames on one feature map, stacked only when they are asked for.

        Raises:
            KeyError: if a frame is not in the memory.
        """
        frames = [self._frames[index][level] for index in frame_indices]
        parts = {}
        for name in frames[0]:
            dtype, device = self._origin[level, name]
            # Moved where that is needed alone: asked of 20 frames for each code, it takes its time.
            parts[name] = [
                x if (x.dtype, x.device) == (dtype, device) else x.to(device, dtype)
                for x in (frame[name] for frame in frames)
            ]
        return StackedCodes(parts)

    def branch(self, branch: int) -> CodesOfFrames:
        """Return the codes of one of the maps that the backbone makes per image."""
        return self if self.branches == 1 else CodesOfBranch(self, branch)

    def gather(self, frame_indices: Sequence[int], level: str | None = None) -> FrameCodes:
        """Stack the codes of frames along the batch; a frame may be named more than once.

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

    def _restored(self, level: str, name: str, parts: list[Tensor]) -> Tensor:
        dtype, device = self._origin[level, name]
        return join_samples(parts).to(device, dtype)

    def forget_before(self, frame_index: int) -> None:
        """Forget the frames before this one, which no window reaches any more."""
        self._frames = {i: codes for i, codes in self._frames.items() if i >= frame_index}

    def discard(self, frame_indices: Iterable[int]) -> None:
        """Take frames out again, where they are held."""
        for index in frame_indices:
            self._frames.pop(index, None)
