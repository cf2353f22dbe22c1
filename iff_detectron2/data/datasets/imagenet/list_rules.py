"""The rules by which the released image lists of ImageNet VID and DET were made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

FRAMES_PER_VIDEO = 15
STILLS_PER_CLASS = 2000
# The released list has every image with a snake, 8591 of them, and at most 2000 of other classes.
UNLIMITED_SYNSETS = ("n01726692",)


def train_frame_indices(video_length: int, num_samples: int = FRAMES_PER_VIDEO) -> list[int]:
    """Choose the training frames of a video: the centres of equal bins.

    The released list `VID_train_15frames.txt` follows this rule (10, 30, ..., 290 of 300 frames).
    Where a centre is a whole number, rounding decides whether it is that frame or the one before;
    so the centre is computed as (i + 1) / rate - 0.5 / rate with rate = samples / length in
    float64, which gives all 57834 lines of the released list.

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
    rate = count / video_length
    return [int((i + 1) / rate - 0.5 / rate) for i in range(count)]


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


def still_list_lines(
    images_of_synset: Mapping[str, Iterable[str]], limit: int = STILLS_PER_CLASS
) -> list[str]:
    """Format DET images as lines `<path without extension> 1`.

    The released list `DET_train_30classes.txt` goes through the classes in the protocol's order; of
    each it takes the images of 2014 and then those of 2013, both sorted by path, until it has
    2000. An image of several classes is listed once for each of them.

    Args:
        images_of_synset: paths of the images with an object of each synset, in the order of the
            classes.
        limit: most images of a class; those of `UNLIMITED_SYNSETS` are all taken.
    """
    if limit < 1:
        raise ValueError(f"at least one image of a class must be taken, got {limit}")
    lines = []
    for synset, images in images_of_synset.items():
        ordered = sorted(images, key=_release_order)
        taken = ordered if synset in UNLIMITED_SYNSETS else ordered[:limit]
        lines += [f"{image} 1" for image in taken]
    return lines


def _release_order(image: str) -> tuple[bool, str]:
    return not any(part.startswith("ILSVRC2014") for part in PurePosixPath(image).parts), image
