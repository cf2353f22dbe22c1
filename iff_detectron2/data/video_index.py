"""Which files are the frames of a video, also those without labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from detectron2.data import DatasetCatalog, MetadataCatalog


@dataclass(frozen=True)
class NumberedFrames(Sequence[str]):
    """Frame files that differ in a zero-padded number, kept as a pattern.

    Attributes:
        folder: folder of the files.
        numbers: number of each frame, in order.
        digits: width that the numbers are padded to.
        suffix: what follows the number, with its dot.
    """

    folder: str
    numbers: range
    digits: int = 6
    suffix: str = ".JPEG"

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> NumberedFrames: ...

    def __getitem__(self, index: int | slice) -> str | NumberedFrames:
        if isinstance(index, slice):
            return NumberedFrames(self.folder, self.numbers[index], self.digits, self.suffix)
        return f"{self.folder}/{self.numbers[index]:0{self.digits}d}{self.suffix}"


class VideoIndex(Mapping[str, Sequence[str]]):
    """Read-only table from a video's id to the files of all its frames, in order.

    It is built before Detectron2 filters frames without objects, so that those still serve as
    reference frames.
    """

    def __init__(self, videos: Mapping[str, Sequence[str]] | None = None) -> None:
        self._videos = dict(videos or {})
        for video_id, frames in self._videos.items():
            if len(frames) == 0:
                raise ValueError(f"video {video_id!r} has no frames in the frame index")

    def __getitem__(self, video_id: str) -> Sequence[str]:
        return self._videos[video_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._videos)

    def __len__(self) -> int:
        return len(self._videos)

    def __repr__(self) -> str:
        return f"VideoIndex({len(self)} videos, {sum(map(len, self.values()))} frames)"


def _same_frames(a: Sequence[str], b: Sequence[str]) -> bool:
    if isinstance(a, NumberedFrames) and isinstance(b, NumberedFrames):
        return a == b
    return len(a) == len(b) and all(x == y for x, y in zip(a, b, strict=True))


def build_video_index(dataset_names: Iterable[str]) -> VideoIndex:
    """Merge the frame indices of registered datasets.

    A dataset without a frame index, Detectron2's COCO for one, counts as stills.

    Raises:
        ValueError: a name is not registered, or two datasets give one video id other files.
    """
    videos: dict[str, Sequence[str]] = {}
    origin: dict[str, str] = {}
    for name in dataset_names:
        if name not in DatasetCatalog:
            raise ValueError(
                f"the dataset {name!r} is not registered; "
                f"registered are {', '.join(sorted(DatasetCatalog.keys()))}"
            )
        frame_index = MetadataCatalog.get(name).get("frame_index")
        if frame_index is None:
            continue
        for video_id, frames in frame_index().items():
            if video_id in videos and not _same_frames(videos[video_id], frames):
                raise ValueError(
                    f"the video id {video_id!r} stands for other frames in {origin[video_id]!r} "
                    f"than in {name!r}; register one of them with other video ids, or use the "
                    "datasets one at a time"
                )
            videos.setdefault(video_id, frames)
            origin.setdefault(video_id, name)
    return VideoIndex(videos)


def listed_frames(dataset_dicts: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Frame indices that a dataset lists of each video, ascending; stills are left out."""
    listed: dict[str, set[int]] = {}
    for sample in dataset_dicts:
        if "video_id" in sample:
            listed.setdefault(sample["video_id"], set()).add(sample["frame_index"])
    return {video_id: sorted(frames) for video_id, frames in listed.items()}
