"""The temporal window of a key frame: which neighbours are fused into it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class TemporalWindow:
    """Neighbours of a key frame, as offsets in frames.

    Attributes:
        num_refs: number of neighbours, the key frame not counted; even unless causal.
        stride: distance in frames between neighbours.
        causal: past frames only, so that a stream needs no look-ahead.
    """

    num_refs: int = 20
    stride: int = 1
    causal: bool = False

    def __post_init__(self) -> None:
        if self.num_refs < 0:
            raise ValueError(f"the number of neighbours must not be negative, got {self.num_refs}")
        if self.stride < 1:
            raise ValueError(f"the stride of the window must be at least 1, got {self.stride}")
        if not self.causal and self.num_refs % 2:
            raise ValueError(
                f"a window that looks both ways needs an even number of neighbours, "
                f"got {self.num_refs}; use an even number or a causal window"
            )

    @classmethod
    def from_config(cls, cfg: Any) -> TemporalWindow:
        """Return the window of testing, that of TEST.VIDEO."""
        video = cfg.TEST.VIDEO
        return cls(video.NUM_REFS, video.STRIDE, video.CAUSAL)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Offsets of the neighbours to the key frame, ascending, without 0."""
        if self.causal:
            return tuple(-self.stride * k for k in range(self.num_refs, 0, -1))
        half = self.num_refs // 2
        return tuple(self.stride * k for k in range(-half, half + 1) if k != 0)

    @property
    def lookahead(self) -> int:
        """Number of frames after the key frame that the window reaches."""
        return max((0, *self.offsets))

    @property
    def span(self) -> int:
        """Number of frames from the first to the last that the window reaches."""
        return self.lookahead - min((0, *self.offsets)) + 1

    def frames(self, frame_index: int, video_length: int) -> list[int]:
        """Frame indices of the neighbours, one per offset, the end frames repeated."""
        if not 0 <= frame_index < video_length:
            raise ValueError(f"frame {frame_index} is outside a video of {video_length} frames")
        return [min(max(frame_index + offset, 0), video_length - 1) for offset in self.offsets]
