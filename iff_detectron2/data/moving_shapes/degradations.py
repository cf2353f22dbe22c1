"""When something spoils an object or a frame for a moment; `data.deteriorations` draws it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Kinds that befall one object, and kinds that befall the whole frame.
OBJECT_KINDS = ("motion_blur", "defocus", "noise", "compression", "occlusion", "pose")
FRAME_KINDS = ("motion_blur", "defocus", "noise", "compression")

_OBJECT_SHARE = 0.31  # of an object's frames at severity 1
_FRAME_SHARE = 0.09  # of a video's frames at severity 1
_MAX_RUN = 5  # frames, so that the window of a spoilt frame always has clean ones
_MEAN_RUN = (_MAX_RUN + 1) / 2
EXPOSURE = 8.0  # frames of motion that a blur of strength 1 smears (exaggerated on purpose)


@dataclass(frozen=True)
class Run:
    """A deterioration that lasts for a few frames.

    Attributes:
        kind: one of `OBJECT_KINDS`.
        start: first frame.
        length: number of frames.
        strength: about 1 at severity 1.
    """

    kind: str
    start: int
    length: int
    strength: float

    def covers(self, frame: int) -> bool:
        """Whether the frame belongs to the run."""
        return self.start <= frame < self.start + self.length

    def progress(self, frame: int) -> float:
        """Where in the run a frame lies, in (0, 1)."""
        return (frame - self.start + 0.5) / self.length


def schedule_runs(
    rng: np.random.Generator,
    *,
    num_frames: int,
    severity: float,
    kinds: tuple[str, ...],
    whole_frame: bool = False,
) -> list[Run]:
    """Draw the runs of an object or, with `whole_frame`, of a video; they never overlap.

    Args:
        rng: source of chance.
        num_frames: length of the video.
        severity: how much of it is spoilt; 0 for nothing.
        kinds: what may happen.
        whole_frame: draw for the video instead of an object.
    """
    share = min((_FRAME_SHARE if whole_frame else _OBJECT_SHARE) * severity, 0.8)
    if share == 0:
        return []
    mean_gap = _MEAN_RUN * (1 - share) / share
    runs = []
    frame = int(rng.exponential(mean_gap))
    while frame < num_frames:
        length = min(int(rng.integers(1, _MAX_RUN + 1)), num_frames - frame)
        strength = float(rng.uniform(0.75, 1.05) * np.sqrt(severity))
        runs.append(Run(str(rng.choice(kinds)), frame, length, strength))
        frame += length + 1 + int(rng.exponential(max(mean_gap - 0.5, 0.1)))
    return runs


def active_run(runs: list[Run], frame: int) -> Run | None:
    """Return the run that covers a frame, if any."""
    return next((run for run in runs if run.covers(frame)), None)
