"""Codes: what an aggregator keeps of frames, and how those of several frames are held together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from iff_detectron2.layers.pixels import join_samples

Codes = Mapping[str, Tensor]
"""What an aggregator keeps of frames: named tensors [N, ., H, W], "feature" among them."""

FrameCodes = Mapping[str, Codes]
"""Codes of one frame (or several) for each feature map, by the name of the map."""

Offsets = Sequence[int] | Tensor
"""Frames from a key frame to each reference frame; int64 [T] in a program that is exported."""


class StackedCodes(Mapping[str, Tensor]):
    """Codes of several frames [T, ., H, W], each name stacked when it is asked for."""

    def __init__(self, parts: dict[str, list[Tensor]]) -> None:
        """
        Args:
            parts: for each name the codes of the frames, [1, ., H, W] each.
        """
        self.parts = parts

    def __getitem__(self, name: str) -> Tensor:
        return join_samples(self.parts[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def parts_of(codes: Codes, name: str) -> Tensor | list[Tensor]:
    """Return one of the codes without a copy: stacked, or in the parts in which they lie."""
    return codes.parts[name] if isinstance(codes, StackedCodes) else codes[name]


class CodesOfFrames(Protocol):
    """Where fusion finds the codes of frames: the memory of a stream, or the batch at hand."""

    def gather(self, frame_indices: Sequence[int], level: str | None = None) -> FrameCodes:
        """Stack the codes of frames along the batch, on one feature map or on all."""

    def refs(self, frame_indices: Sequence[int], level: str) -> Codes:
        """Return the codes of reference frames on one feature map."""


class CodesOfBranch:
    """Codes of one of the maps that a backbone makes per image, out of the memory of a stream."""

    def __init__(self, frames: CodesOfFrames, branch: int) -> None:
        """
        Args:
            frames: where the codes of all branches are.
            branch: which of each frame's maps.
        """
        self._frames = frames
        self._branch = branch

    def gather(self, frame_indices: Sequence[int], level: str | None = None) -> FrameCodes:
        """Stack the codes of frames along the batch, on one feature map or on all."""
        return {
            name: {
                code: x.unflatten(0, (len(frame_indices), -1))[:, self._branch]
                for code, x in codes.items()
            }
            for name, codes in self._frames.gather(frame_indices, level).items()
        }

    def refs(self, frame_indices: Sequence[int], level: str) -> Codes:
        """Return the codes of reference frames on one feature map."""
        return self.gather(frame_indices, level)[level]


class BatchCodes:
    """Codes of the frames of one sample as they lie in the batch: no copy, and gradients pass."""

    def __init__(self, codes: FrameCodes, rows: Mapping[int, int]) -> None:
        """
        Args:
            codes: those of the whole batch.
            rows: row of the batch of each frame, by frame index.
        """
        self._codes = codes
        self._rows = rows

    def gather(self, frame_indices: Sequence[int], level: str | None = None) -> FrameCodes:
        """Stack the codes of frames along the batch; a frame may be named more than once."""
        levels = self._codes if level is None else [level]
        return {name: self.refs(frame_indices, name) for name in levels}

    def refs(self, frame_indices: Sequence[int], level: str) -> Codes:
        """Return the codes of frames on one feature map: a view where they lie in this order."""
        rows = [self._rows[index] for index in frame_indices]
        first = rows[0]
        if rows == list(range(first, first + len(rows))):
            return {name: x[first : first + len(rows)] for name, x in self._codes[level].items()}
        return {
            name: join_samples([x[row : row + 1] for row in rows])
            for name, x in self._codes[level].items()
        }
