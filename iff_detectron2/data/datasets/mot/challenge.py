"""MOTChallenge sequences: `seqinfo.ini`, `gt/gt.txt` and a folder of frames."""

from __future__ import annotations

import configparser
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode

from iff_detectron2.data.catalog import DatasetDicts, register_video_dataset
from iff_detectron2.data.datasets.boxes import BoxCheck
from iff_detectron2.data.video_index import NumberedFrames, VideoIndex

# Class numbers of MOT16 and later; MOT15 has no class column.
MOT_CLASSES: dict[int, str] = {
    1: "pedestrian",
    2: "person_on_vehicle",
    3: "car",
    4: "bicycle",
    5: "motorbike",
    6: "non_motorized_vehicle",
    7: "static_person",
    8: "distractor",
    9: "occluder",
    10: "occluder_on_ground",
    11: "occluder_full",
    12: "reflection",
    13: "crowd",
}


@dataclass(frozen=True)
class SequenceInfo:
    """What `seqinfo.ini` says.

    Attributes:
        name: name of the sequence.
        frames: image files, the first one is MOT's frame 1.
        width: width of the images in pixels.
        height: height of the images in pixels.
    """

    name: str
    frames: NumberedFrames
    width: int
    height: int


@dataclass(frozen=True)
class TruthRow:
    """One line of `gt.txt`.

    Attributes:
        place: file and line, for messages.
        frame: counted from 1.
        track_id: id within the sequence.
        box: left, top, width, height in pixels.
        scored: false where the confidence is 0.
        class_id: key of `MOT_CLASSES`, or None in MOT15.
    """

    place: str
    frame: int
    track_id: int
    box: tuple[float, float, float, float]
    scored: bool
    class_id: int | None


def read_seqinfo(folder: Path) -> SequenceInfo:
    """Read `seqinfo.ini` and find out how the frames are numbered.

    Raises:
        FileNotFoundError: `seqinfo.ini` or the first frame is missing.
        ValueError: a key is missing or not a positive integer.
    """
    path = folder / "seqinfo.ini"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist; a MOTChallenge sequence is a folder with seqinfo.ini, "
            "gt/gt.txt and its frames"
        ) from None
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(f"{path} is not a valid ini file: {error}") from None

    def value(key: str) -> str:
        if not parser.has_option("Sequence", key):
            raise ValueError(f"{path} lacks the key {key!r} in its section [Sequence]")
        return parser.get("Sequence", key)

    def positive(key: str) -> int:
        content = value(key)
        if not content.isdecimal() or int(content) < 1:
            raise ValueError(f"{path} has {key} = {content!r}; expected a positive integer")
        return int(content)

    image_folder = Path(value("imDir"))
    if image_folder.is_absolute() or ".." in image_folder.parts:
        raise ValueError(f"{path} has imDir = {str(image_folder)!r}, which leaves the sequence")
    numbers = range(1, positive("seqLength") + 1)
    # Six digits in MOTChallenge itself, eight in sets that borrow its format.
    for digits in (6, 8):
        frames = NumberedFrames(str(folder / image_folder), numbers, digits, value("imExt"))
        if Path(frames[0]).is_file():
            break
    else:
        raise FileNotFoundError(
            f"the first frame of {folder} is missing: neither 6 nor 8 digits find "
            f"{folder / image_folder}/...1{value('imExt')}"
        )
    return SequenceInfo(value("name"), frames, positive("imWidth"), positive("imHeight"))


def read_truth(path: Path, num_frames: int) -> Iterator[TruthRow]:
    """Read `gt.txt`: `frame,id,left,top,width,height,conf,` and then `-1,-1,-1` or any other
    three numbers (MOT15), or class and visibility (MOT16 and later).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a malformed line, a frame outside the sequence, or an unknown class.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist; only sequences with ground truth can be registered"
        ) from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        columns = line.split(",")
        if len(columns) not in (9, 10):
            raise ValueError(
                f"{place}: expected 9 columns (MOT16) or 10 (MOT15), got {len(columns)}: {line!r}"
            )
        try:
            values = [float(column) for column in columns]
        except ValueError:
            raise ValueError(f"{place}: every column must be a number: {line!r}") from None
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{place}: every column must be finite: {line!r}")
        whole = values[:2] if len(columns) == 10 else [*values[:2], values[7]]
        if any(v != int(v) for v in whole):
            raise ValueError(f"{place}: frame, id and class must be integers: {line!r}")
        frame, track_id = int(values[0]), int(values[1])
        if not 1 <= frame <= num_frames:
            raise ValueError(f"{place}: frame {frame} is outside the sequence, 1 to {num_frames}")
        class_id = int(values[7]) if len(columns) == 9 and values[7] != -1 else None
        if class_id is not None and class_id not in MOT_CLASSES:
            raise ValueError(f"{place}: unknown class {class_id}; MOTChallenge has 1 to 13")
        left, top, width, height = values[2:6]
        box = (left, top, width, height)
        yield TruthRow(place, frame, track_id, box, values[6] != 0, class_id)


def _annotation(
    row: TruthRow, info: SequenceInfo, classes: Sequence[str], check: BoxCheck
) -> dict[str, Any] | None:
    """Return the annotation of a row, or None if its class or its box is left out."""
    if row.class_id is None:
        if len(classes) != 1:
            raise ValueError(
                f"{row.place}: the line has no class, so exactly one class can be registered, "
                f"got {tuple(classes)}"
            )
        category_id = 0
    elif MOT_CLASSES[row.class_id] in classes:
        category_id = classes.index(MOT_CLASSES[row.class_id])
    else:
        return None
    left, top, width, height = row.box
    if width <= 0 or height <= 0:
        check.drop(row.place)
        return None
    box = check((left, top, left + width, top + height), info.width, info.height, row.place)
    if box is None:
        return None
    return {
        "bbox": list(box),
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": category_id,
        "iscrowd": 0 if row.scored else 1,
        "track_id": row.track_id,
    }


def load_mot_challenge(
    name: str,
    sequences: Sequence[Path],
    classes: Sequence[str],
    frames: tuple[int, int] | None = None,
    annotated_only: bool = True,
    confine_refs: bool = True,
) -> tuple[DatasetDicts, VideoIndex]:
    """Read sequences; see `register_mot_challenge`. Only the first frame is looked for on disk."""
    check = BoxCheck(name)
    dicts: DatasetDicts = []
    videos: dict[str, Sequence[str]] = {}
    for folder in sequences:
        info = read_seqinfo(folder)
        if info.name in videos:
            raise ValueError(f"two sequences of {name!r} are named {info.name!r}, see {folder}")
        num_frames = len(info.frames)
        first, last = frames or (1, num_frames)
        if last > num_frames:
            raise ValueError(
                f"frames {first} to {last} of {folder} were asked for, it has {num_frames}"
            )
        annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in read_truth(folder / "gt" / "gt.txt", num_frames):
            if not first <= row.frame <= last:
                continue
            of_frame = annotations[row.frame]  # made here: a frame of other classes is annotated
            if (annotation := _annotation(row, info, classes, check)) is not None:
                of_frame.append(annotation)
        start = first if confine_refs else 1
        video = info.frames[first - 1 : last] if confine_refs else info.frames
        videos[info.name] = video
        for frame in range(first, last + 1):
            if annotated_only and frame not in annotations:
                continue
            dicts.append(
                {
                    "file_name": video[frame - start],
                    "height": info.height,
                    "width": info.width,
                    "image_id": len(dicts) + 1,
                    "video_id": info.name,
                    "frame_index": frame - start,
                    "video_length": len(video),
                    "annotations": annotations.get(frame, []),
                }
            )
    if not dicts:
        raise ValueError(
            f"the dataset {name!r} is empty: gt.txt has no line for "
            f"{'any frame' if frames is None else f'frames {frames[0]} to {frames[1]}'} of "
            f"{', '.join(map(str, sequences))}"
        )
    check.warn()
    return dicts, VideoIndex(videos)


def find_sequences(path: Path) -> list[Path]:
    """Return the sequence at `path`, or else all sequences right below it, sorted by name."""
    if (path / "seqinfo.ini").is_file() or not path.is_dir():
        return [path]
    found = sorted(ini.parent for ini in path.glob("*/seqinfo.ini"))
    if not found:
        raise FileNotFoundError(f"neither {path} nor a folder in it has a seqinfo.ini")
    return found


def register_mot_challenge(
    name: str,
    sequences: str | Path | Sequence[str | Path],
    *,
    classes: Sequence[str] = ("pedestrian",),
    frames: tuple[int, int] | None = None,
    annotated_only: bool = True,
    confine_refs: bool = True,
) -> None:
    """Register MOTChallenge sequences; nothing is read before the dataset is used.

    The video id is the sequence's name. Boxes stay as written (no shift of MOT's corner, which
    counts from 1) and are clipped to the image. Confidence 0 becomes `iscrowd` 1.

    Args:
        name: the dataset's name in configs.
        sequences: folders of sequences; a folder of sequences stands for all of them.
        classes: names from `MOT_CLASSES`, in the order of `category_id`; lines of other classes
            are left out. Lines without a class (MOT15) are of the one class given, which may
            then have any name.
        frames: first and last frame, inclusive and counted from 1 as in MOTChallenge; all if
            left out.
        annotated_only: list only frames with a line in `gt.txt`; the others stay neighbours.
        confine_refs: with `frames`, make them a video of their own, with `frame_index`
            counted from the first of them, so that a training split never sees a test frame.

    Raises:
        ValueError: no sequence, no class, a class twice, or a range that is empty.
    """
    if isinstance(sequences, str | Path):
        sequences = [sequences]
    folders = [Path(sequence).expanduser() for sequence in sequences]
    if not folders:
        raise ValueError(f"the dataset {name!r} needs at least one sequence")
    class_names = (classes,) if isinstance(classes, str) else tuple(classes)
    if len(set(class_names)) != len(class_names):
        raise ValueError(f"a class of {name!r} is given twice: {class_names}")
    unknown = set(class_names) - set(MOT_CLASSES.values())
    if len(class_names) > 1 and unknown:
        raise ValueError(
            f"unknown MOTChallenge classes {sorted(unknown)}; known are "
            f"{', '.join(MOT_CLASSES.values())}"
        )
    if frames is not None and not 1 <= frames[0] <= frames[1]:
        raise ValueError(f"the frames must be 1 <= first <= last, got {frames}")

    def load() -> tuple[DatasetDicts, VideoIndex]:
        found = [sequence for folder in folders for sequence in find_sequences(folder)]
        return load_mot_challenge(name, found, class_names, frames, annotated_only, confine_refs)

    register_video_dataset(name, load, class_names)
