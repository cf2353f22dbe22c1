"""A video and the boxes in it, as most formats have them, and how it becomes dataset dicts."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.structures import BoxMode

from iff_detectron2.data.catalog import DatasetDicts, LoadedDataset, register_video_dataset
from iff_detectron2.data.video_index import VideoIndex

from .boxes import Box, BoxCheck


class LabelledBox(NamedTuple):
    """A box of a video, as its file says.

    Attributes:
        number: frame number of the source.
        box: x1, y1, x2, y2 in pixels.
        label: name of its class; None in formats without classes.
        track_id: id within the video, None where there is none.
        place: file and line, for messages.
        crowd: neither to be found nor wrong to be found (Detectron2's `iscrowd`).
        mask: RLE as `segmentation`, None where there is none.
    """

    number: int
    box: Box
    label: str | None
    track_id: int | str | None
    place: str
    crowd: bool = False
    mask: dict[str, Any] | None = None


@dataclass(frozen=True)
class LabelledVideo:
    """A video and its labels.

    Attributes:
        video_id: name of the video.
        files: all its frames.
        numbers: frame number of each of them in the source, ascending.
        width: width of the frames in pixels.
        height: height of the frames in pixels.
        boxes: in the order of the file.
        looked_at: numbers of frames that were labelled, also where they have no box; those with
            a box need not be among them.
        source: file of the labels, for messages.
    """

    video_id: str
    files: Sequence[str]
    numbers: Sequence[int]
    width: int
    height: int
    boxes: Sequence[LabelledBox]
    looked_at: Collection[int]
    source: str


# Videos of a dataset, and the names of its classes; what is left out goes to the BoxCheck.
ReadVideos = Callable[[BoxCheck], tuple[Iterable[LabelledVideo], Sequence[str]]]


class _Classes:
    """Number of each class that is used; labels of the others are left out."""

    def __init__(self, used: Sequence[str], known: Sequence[str], dataset: str) -> None:
        self._unknown = next((name for name in used if name not in known), None)
        self._dataset = dataset
        self._known = tuple(known)
        self._numbers = {name: number for number, name in enumerate(used)}
        if len(used) > 1:
            self._refuse_unknown()

    def _refuse_unknown(self) -> None:
        if self._unknown is not None:
            raise ValueError(
                f"{self._dataset!r} has no class {self._unknown!r}; it has "
                f"{', '.join(self._known) or 'none'}"
            )

    def number(self, box: LabelledBox, check: BoxCheck) -> int | None:
        if box.label is None:
            if len(self._numbers) != 1:
                raise ValueError(
                    f"{box.place}: the line has no class, so exactly one class can be registered, "
                    f"got {tuple(self._numbers)}"
                )
            return 0
        self._refuse_unknown()  # one class of any name may stand for lines without a class only
        if box.label in self._numbers:
            return self._numbers[box.label]
        if box.label not in self._known:
            raise ValueError(
                f"{box.place}: the label {box.label!r} is none of the dataset's classes "
                f"{', '.join(self._known)}"
            )
        check.leave_out(f"boxes of the class {box.label!r}, which is not used", box.place)
        return None


def load_videos(
    name: str,
    read: ReadVideos,
    source: Path,
    classes: Sequence[str] | None = None,
    frames: tuple[int, int] | None = None,
    annotated_only: bool = True,
    confine_refs: bool = True,
) -> LoadedDataset:
    """Make the dataset of labelled videos; see `register_videos`.

    Raises:
        ValueError: two videos of one name, a box of a frame that its video lacks, an unknown
            class, a track with two boxes in a frame, frames that a video lacks, or no frame left.
    """
    check = BoxCheck(name)
    found, known = read(check)
    videos = list(found)
    used = list(known if classes is None else classes)
    if not used:
        raise ValueError(f"the dataset {name!r} needs at least one class, {source} names none")
    numbers = _Classes(used, known, name)
    dicts: DatasetDicts = []
    index: dict[str, Sequence[str]] = {}
    for video in videos:
        if video.video_id in index:
            raise ValueError(
                f"two videos of {name!r} are named {video.video_id!r}, see {video.source}"
            )
        looked_at = () if annotated_only else video.looked_at
        annotations = _annotations(video, looked_at, numbers, frames, check)
        span = _span(video, frames)
        base, end = span if confine_refs else (0, len(video.files))
        index[video.video_id] = video.files[base:end]
        for number in sorted(annotations):
            position = bisect_left(video.numbers, number)
            dicts.append(
                {
                    "file_name": video.files[position],
                    "height": video.height,
                    "width": video.width,
                    "image_id": len(dicts) + 1,
                    "video_id": video.video_id,
                    "frame_index": position - base,
                    "frame_number": number,
                    "video_length": end - base,
                    "annotations": annotations[number],
                }
            )
    if not dicts:
        which = "any frame" if frames is None else f"frames {frames[0]} to {frames[1]}"
        places = ", ".join(video.source for video in videos) or source
        raise ValueError(f"the dataset {name!r} is empty: no label of {which} in {places}")
    check.warn()
    return LoadedDataset(dicts, VideoIndex(index), {"thing_classes": used})


def _span(video: LabelledVideo, frames: tuple[int, int] | None) -> tuple[int, int]:
    """First and one past the last position of the frames that are asked for."""
    if frames is None:
        return 0, len(video.files)
    if frames[1] > video.numbers[-1]:
        raise ValueError(
            f"frames {frames[0]} to {frames[1]} of {video.source} were asked for, it has "
            f"{video.numbers[0]} to {video.numbers[-1]}"
        )
    return bisect_left(video.numbers, frames[0]), bisect_right(video.numbers, frames[1])


def _annotations(
    video: LabelledVideo,
    looked_at: Collection[int],
    classes: _Classes,
    frames: tuple[int, int] | None,
    check: BoxCheck,
) -> dict[int, list[dict[str, Any]]]:
    """Annotations by frame number, of the frames in `looked_at` and those that have a box."""
    low, high = frames or (video.numbers[0], video.numbers[-1])
    exists = video.numbers if isinstance(video.numbers, range) else frozenset(video.numbers)
    wanted = looked_at if isinstance(looked_at, range) else frozenset(looked_at)
    found: dict[int, list[dict[str, Any]]] = {
        number: []
        for number in (video.numbers if wanted else ())
        if low <= number <= high and number in wanted
    }
    tracks: set[tuple[int, int | str]] = set()
    for item in video.boxes:
        if item.number not in exists:
            raise ValueError(
                f"{item.place}: frame {item.number} is outside of {video.video_id!r}, which has "
                f"{len(video.files)} frames from {video.numbers[0]} to {video.numbers[-1]}"
            )
        if not low <= item.number <= high:
            continue
        of_frame = found.setdefault(item.number, [])  # a frame of other classes was looked at too
        category = classes.number(item, check)
        if category is None:
            continue
        box = check(item.box, video.width, video.height, item.place, no_area=True)
        if box is None:
            continue
        annotation: dict[str, Any] = {
            "bbox": list(box),
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": category,
            "iscrowd": int(item.crowd),
        }
        if item.track_id is not None:
            if (item.number, item.track_id) in tracks:
                raise ValueError(
                    f"{item.place}: the track {item.track_id!r} has a second box in frame "
                    f"{item.number}; a track has one box per frame"
                )
            tracks.add((item.number, item.track_id))
            annotation["track_id"] = item.track_id
        if item.mask is not None:
            annotation["segmentation"] = item.mask
        of_frame.append(annotation)
    return found


def register_videos(
    name: str,
    read: ReadVideos,
    source: Path,
    *,
    classes: Sequence[str] | None = None,
    known: Sequence[str] | None = None,
    frames: tuple[int, int] | None = None,
    annotated_only: bool = True,
    confine_refs: bool = True,
) -> None:
    """Register labelled videos; nothing is read before the dataset is used.

    Args:
        name: the dataset's name in configs.
        read: reads the files.
        source: file or folder of the labels, for messages.
        classes: names of the classes to use, in the order of `category_id`; boxes of the others
            are left out and counted. All if left out.
        known: the classes of the format, where they do not depend on the files.
        frames: first and last frame, inclusive, in the source's numbers; all if left out.
        annotated_only: list only frames with a box, also one of another class; otherwise all that
            were looked at. The others stay reference frames.
        confine_refs: with `frames`, make them a video of their own, with `frame_index` counted
            from the first of them, so that a training split never sees a test frame.

    Raises:
        ValueError: the name is taken, a class is given twice, or the range is empty.
    """
    if isinstance(classes, str):
        classes = (classes,)
    if classes is not None and len(set(classes)) != len(classes):
        raise ValueError(f"a class of {name!r} is given twice: {tuple(classes)}")
    unknown = [c for c in classes or () if known is not None and c not in known]
    if known is not None and unknown:
        raise ValueError(f"{name!r} has no class {unknown[0]!r}; it has {', '.join(known)}")
    if frames is not None and not 0 <= frames[0] <= frames[1]:
        raise ValueError(f"the frames must be 0 <= first <= last, got {frames}")
    load = partial(load_videos, name, read, source, classes, frames, annotated_only, confine_refs)
    names = known if classes is None else classes
    register_video_dataset(name, load, names, described=names is None)
