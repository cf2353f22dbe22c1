"""A frame on its way into a video detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class ReadyFrame:
    """A decoded frame with what the network gets of it; `VideoPredictor.prepare` makes it.

    Attributes:
        pixels: the frame as it was given, uint8 BGR [H, W, 3].
        image: the network's input, [C, h, w], on the CPU; in pinned memory where the detector is on
            a GPU, so that its copy keeps nobody waiting.
    """

    pixels: np.ndarray
    image: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame as it was given."""
        return self.pixels.shape[0], self.pixels.shape[1]
