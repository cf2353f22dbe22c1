"""Are the image files there, whole, and of the size that the annotations say?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from iff_detectron2.data import NumberedFrames, read_frame
from iff_detectron2.utils.parallel import map_blocks, split_blocks
from iff_detectron2.video.frames import split_frame_name
from iff_detectron2.video.images import check_depth, upright_size

from .identity import by_video
from .report import Finding, finding

Record = Mapping[str, Any]
Videos = Mapping[str, Sequence[str]]

_BLOCK = 64
_JPEG = (".jpg", ".jpeg")
_END_OF_IMAGE = b"\xff\xd9"


def check_files(dicts: Sequence[Record], videos: Videos, decode: bool) -> list[Finding]:
    """Look for every frame on disk, and into the annotated ones.

    Args:
        dicts: dataset dicts.
        videos: frame index, video id -> files of its frames.
        decode: decode every frame, also those without annotation; otherwise headers are
            read, and only JPEGs without their end are decoded.
    """
    listed = list(dict.fromkeys(record["file_name"] for record in dicts))
    frames = (frame for of_video in videos.values() for frame in of_video)
    every = list(dict.fromkeys([*frames, *listed]))
    missing = set(_run(_missing, _containers(every), "looking for frames", mostly_python=True))
    from_1 = _count_from_1(videos, missing)
    there = [name for name in (every if decode else listed) if _container(name) not in missing]
    look = _decoded if decode else _header
    bad, sizes = [], {}
    desc = "decoding" if decode else "reading headers"
    for name, size, reason in _run(look, there, desc, mostly_python=not decode):
        if reason:
            bad.append(reason if str(name) in reason else f"{name}: {reason}")
        elif size is not None:
            sizes[name] = size
    return [
        *finding("problem", "files", "missing image or video files", sorted(missing)),
        *finding(
            "problem",
            "frame numbers",
            "videos whose files count from 1; ours count from 0",
            from_1,
        ),
        *finding("problem", "files", "files that cannot be read", bad),
        *_check_sizes(dicts, sizes),
    ]


def _container(name: str) -> str:
    """Return the file that holds a frame."""
    parts = split_frame_name(name)
    return name if parts is None else parts[0]


def _containers(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(map(_container, names)))


def _run(function: Callable, names: Sequence[str], desc: str, *, mostly_python: bool) -> Iterator:
    # A video is decoded by one thread, in order; several would seek it to and fro.
    of_videos: dict[str, list[str]] = {}
    images = []
    for name in names:
        if split_frame_name(name) is None:
            images.append(name)
        else:
            of_videos.setdefault(_container(name), []).append(name)
    blocks = [*split_blocks(images, _BLOCK), *of_videos.values()]
    for block in map_blocks(function, blocks, desc, mostly_python=mostly_python):
        yield from block


def _missing(names: Sequence[str]) -> list[str]:
    return [name for name in names if not os.path.isfile(name)]


def _count_from_1(videos: Videos, missing: set[str]) -> list[str]:
    """Videos that lack their first frame and have one behind their last."""
    found = []
    for video, frames in videos.items():
        if isinstance(frames, NumberedFrames) and frames[0] in missing:
            after = range(frames.numbers.stop, frames.numbers.stop + 1)
            behind = NumberedFrames(frames.folder, after, frames.digits, frames.suffix)[0]
            if os.path.isfile(behind):
                found.append(video)
    return found


Look = tuple[str, tuple[int, int] | None, str]  # file, (width, height), why it cannot be read


def _header(names: Sequence[str]) -> list[Look]:
    return [_look_at(name) for name in names]


def _look_at(name: str) -> Look:
    if split_frame_name(name) is not None:
        return name, None, ""  # opening the video for each frame would decode it
    try:
        with Image.open(name) as image:
            check_depth(image)
            size = upright_size(image)
        if name.lower().endswith(_JPEG) and not _ends(name):
            return _decode(name)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return name, None, str(error)
    return name, size, ""


def _ends(name: str) -> bool:
    """Whether the end of a JPEG is near the end of its file."""
    with open(name, "rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - 64))
        return _END_OF_IMAGE in stream.read()


def _decoded(names: Sequence[str]) -> list[Look]:
    return [_decode(name) for name in names]


def _decode(name: str) -> Look:
    try:
        height, width = read_frame(name, "BGR").shape[:2]
    except (OSError, ValueError) as error:
        return name, None, str(error)
    return name, (width, height), ""


def _check_sizes(
    dicts: Sequence[Record], sizes: Mapping[str, tuple[int, int]]
) -> Iterator[Finding]:
    wrong = []
    for record in dicts:
        size = sizes.get(record["file_name"])
        said = record.get("width"), record.get("height")
        if size is not None and None not in said and size != said:
            wrong.append(
                f"{record['file_name']} is {size[0]}x{size[1]}, annotated as {said[0]}x{said[1]}"
            )
    mixed = [
        video
        for video, records in by_video(dicts).items()
        if len({(r.get("width"), r.get("height")) for r in records}) > 1
    ]
    yield from finding("problem", "sizes", "images of another size than annotated", wrong)
    yield from finding("problem", "sizes", "videos whose frames differ in size", mixed)
