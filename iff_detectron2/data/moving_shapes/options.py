"""The options of a MovingShapes set and what is a sensible value of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from typing import Any

MIN_SIDE, MAX_SIDE = 64, 4096
MAX_SEVERITY = 2.0


def _option(default: Any, flag: str, meaning: str) -> Any:
    return field(default=default, metadata={"flag": flag, "help": meaning})


@dataclass(frozen=True)
class MovingShapesOptions:
    """Everything that the bytes of the set depend on; checked when made.

    The fields are also the generator's arguments, and the command line is made from them: each
    carries its flag and its meaning.

    Raises:
        ValueError, TypeError: a value is out of range or of a wrong type.
    """

    seed: int = _option(0, "--seed", "seed of the whole set")
    num_train_videos: int = _option(80, "--train-videos", "videos of the train split")
    num_val_videos: int = _option(20, "--val-videos", "videos of the val split")
    num_frames: int = _option(32, "--frames", "frames of a train video")
    num_val_frames: int | None = _option(
        None,
        "--val-frames",
        "frames of a val video (default: a quarter more than of train)",
    )
    size: tuple[int, int] = _option(
        (224, 160), "--size", "width and height of the frames in pixels"
    )
    max_objects: int = _option(3, "--objects", "most objects of a video")
    severity: float = _option(
        1.0, "--severity", "how often and how strongly objects deteriorate, 0 (never) to 2"
    )

    def __post_init__(self) -> None:
        if self.num_val_frames is None:
            _check_count("num_frames", self.num_frames, 1)
            object.__setattr__(self, "num_val_frames", self.num_frames * 5 // 4)
        _check_count("seed", self.seed, 0)
        _check_count("num_train_videos", self.num_train_videos, 0)
        _check_count("num_val_videos", self.num_val_videos, 0)
        _check_count("num_frames", self.num_frames, 1)
        _check_count("num_val_frames", self.num_val_frames, 1)
        _check_count("max_objects", self.max_objects, 1)
        if self.num_train_videos == 0 and self.num_val_videos == 0:
            raise ValueError(
                "num_train_videos and num_val_videos are both 0: nothing to generate; "
                "ask for at least one video"
            )
        if self.max_objects > 20:
            raise ValueError(f"max_objects must be at most 20, got {self.max_objects}")
        if max(self.num_frames, self.num_val_frames or 0) > 10**6:
            raise ValueError(
                "a video can have at most 1000000 frames (file names have six digits), "
                f"got {self.num_frames} and {self.num_val_frames}"
            )
        if not isinstance(self.size, (tuple, list)) or len(self.size) != 2:
            raise ValueError(f"size must be (width, height), got {self.size!r}")
        for name, side in zip(("width", "height"), self.size, strict=True):
            _check_count(name, side, MIN_SIDE)
            if side > MAX_SIDE:
                raise ValueError(f"{name} must be at most {MAX_SIDE} pixels, got {side}")
        if not isinstance(self.severity, Real) or not 0 <= self.severity <= MAX_SEVERITY:
            raise ValueError(f"severity must be within [0, {MAX_SEVERITY:g}], got {self.severity}")
        object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))
        object.__setattr__(self, "severity", float(self.severity))

    def num_videos(self, split: str) -> int:
        """Return the number of videos of the split `train` or `val`."""
        return self.num_train_videos if split == "train" else self.num_val_videos

    def video_length(self, split: str) -> int:
        """Return the number of frames of each video of the split `train` or `val`."""
        length = self.num_frames if split == "train" else self.num_val_frames
        assert length is not None  # filled in by __post_init__
        return length

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        return {**asdict(self), "size": list(self.size)}


def _check_count(name: str, value: object, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < minimum:  # type: ignore[operator]
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
