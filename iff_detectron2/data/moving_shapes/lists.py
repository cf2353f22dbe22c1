"""Lines of the image-set lists in the format of ImageNet VID."""

from __future__ import annotations

from collections.abc import Sequence


def train_frame_indices(video_length: int, num_samples: int = 15) -> list[int]:
    """Choose the training frames of a video: the centres of equal bins.

    The released list `VID_train_15frames.txt` follows this rule (10, 30, ..., 290 of 300 frames).
    For a few lengths it is one lower where a bin's centre is exactly a whole number, which looks
    like a rounding error of floating point; here whole centres are kept.

    Args:
        video_length: number of frames of the video.
        num_samples: number of frames wanted; a shorter video gives each of its frames once.

    Returns:
        Ascending 0-based frame indices.
    """
    if video_length < 1:
        raise ValueError(f"a video needs at least one frame, got length {video_length}")
    if num_samples < 1:
        raise ValueError(f"at least one frame a video must be sampled, got {num_samples}")
    count = min(num_samples, video_length)
    return [(2 * i + 1) * video_length // (2 * count) for i in range(count)]


def train_list_lines(videos: Sequence[tuple[str, int]]) -> list[str]:
    """Format `(video folder, length)` pairs as lines `<video folder> 1 <frame> <length>`."""
    return [
        f"{folder} 1 {frame} {length}"
        for folder, length in videos
        for frame in train_frame_indices(length)
    ]


def val_list_lines(videos: Sequence[tuple[str, int]]) -> list[str]:
    """Format `(video folder, length)` pairs as `<video folder> <first frame id> 0 <length>`.

    Global frame ids are 1-based and count all frames of all videos in order.
    """
    lines = []
    first_id = 1
    for folder, length in videos:
        lines.append(f"{folder} {first_id} 0 {length}")
        first_id += length
    return lines
