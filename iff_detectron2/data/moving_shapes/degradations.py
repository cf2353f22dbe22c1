"""What spoils a frame for a moment: when it happens, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
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
    """Draw the runs of an object or, with `whole_frame`, of a video; they never overlap."""
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


def blur_along(image: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Smear a float32 image evenly along a motion vector in pixels, centred on where it was."""
    length = float(np.hypot(*motion))
    if length < 0.5:
        return image
    radius = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    steps = np.linspace(-0.5, 0.5, int(4 * length) + 3)
    for x, y in radius + steps[:, None] * motion:
        # Each sample of the path is shared by its four neighbours: the line is sub-pixel.
        left, top = int(x), int(y)
        fx, fy = x - left, y - top
        kernel[top, left] += (1 - fx) * (1 - fy)
        kernel[top, left + 1] += fx * (1 - fy)
        kernel[top + 1, left] += (1 - fx) * fy
        kernel[top + 1, left + 1] += fx * fy
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def defocus(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a float32 image as an unsharp lens does, sigma in pixels."""
    return cv2.GaussianBlur(image, (0, 0), max(sigma, 0.1), borderType=cv2.BORDER_REPLICATE)


def add_noise(
    rng: np.random.Generator, image: np.ndarray, *, sigma: float, grain: float
) -> np.ndarray:
    """Add fine noise, and coarse noise of `grain` pixels, each of deviation `sigma` (0-255)."""
    height, width = image.shape[:2]
    fine = rng.standard_normal((height, width, 3), dtype=np.float32)
    nodes = (int(height / grain) + 1, int(width / grain) + 1, 3)
    coarse = cv2.resize(
        rng.standard_normal(nodes, dtype=np.float32),
        (width, height),
        interpolation=cv2.INTER_NEAREST,
    )
    return np.clip(image + np.float32(sigma) * (fine + coarse), 0, 255)


def compress(image: np.ndarray, *, shrink: float, strength: float) -> np.ndarray:
    """Send a float32 image through a small, low-quality JPEG, as a starved video stream would."""
    height, width = image.shape[:2]
    shrink = max(shrink, 1.0)
    small_size = (max(int(width / shrink), 2), max(int(height / shrink), 2))
    small = cv2.resize(image, small_size, interpolation=cv2.INTER_AREA)
    quality = int(np.clip(16 - 12 * strength, 2, 100))
    done, code = cv2.imencode(
        ".jpg", np.clip(small, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise RuntimeError(f"OpenCV could not encode a JPEG of {small.shape[1]}x{small.shape[0]}")
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV could not decode the JPEG that it encoded")
    return cv2.resize(decoded.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
