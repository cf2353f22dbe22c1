"""MOTChallenge sequences: `seqinfo.ini`, `gt/gt.txt` and a folder of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from iff_detectron2.data.datasets.boxes import BoxCheck
from iff_detectron2.data.datasets.labelled_video import (
    LabelledBox,
    LabelledVideo,
    register_videos,
)

from .sequence import Row, find_sequences, read_rows, read_seqinfo

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


def read_truth(path: Path, num_frames: int) -> Iterator[LabelledBox]:
    """Read `gt.txt`: `frame,id,left,top,width,height,conf,` and then `-1,-1,-1` or any other
    three numbers (MOT15), or class and visibility (MOT16 and later).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a malformed line, a frame outside the sequence, an unknown class, or ten columns
            that are VisDrone's.
    """
    what = "only sequences with ground truth can be registered"
    rows = list(read_rows(path, what, (9, 10), "9 (MOT16) or 10 (MOT15)"))
    if _is_visdrone(rows):
        raise ValueError(
            f"{path}: its ten columns are VisDrone's (category, truncation and occlusion in the "
            "last three), not MOT15's; register it as visdrone:PATH"
        )
    for row in rows:
        with_class = len(row.values) == 9
        (frame, _), classes = row.integers(0, 1), row.integers(7) if with_class else [-1]
        if not 1 <= frame <= num_frames:
            raise ValueError(
                f"{row.place}: frame {frame} is outside the sequence, 1 to {num_frames}"
            )
        if classes[0] != -1 and classes[0] not in MOT_CLASSES:
            raise ValueError(f"{row.place}: unknown class {classes[0]}; MOTChallenge has 1 to 13")
        label = MOT_CLASSES.get(classes[0])
        crowd = row.values[6] == 0
        yield LabelledBox(frame, row.box, label, row.track_id, row.place, crowd)


def _is_visdrone(rows: Sequence[Row]) -> bool:
    """Whether ten columns end in VisDrone's category 0 to 11, truncation 0 or 1, occlusion 0 to 2.

    MOT15 has -1 there, or coordinates in the world, which are no such small integers all along.
    """
    return (
        bool(rows)
        and all(
            len(row.values) == 10
            and row.values[7] in range(12)
            and row.values[8] in range(2)
            and row.values[9] in range(3)
            for row in rows
        )
        and any(row.values[7] > 0 for row in rows)
    )


def _read_sequence(folder: Path) -> LabelledVideo:
    labels = folder / "gt" / "labels.txt"
    if labels.is_file():
        raise ValueError(
            f"{labels} names classes of its own, which are not MOTChallenge's; register "
            "the sequence as cvat_mot:PATH"
        )
    info = read_seqinfo(folder)
    truth = folder / "gt" / "gt.txt"
    return LabelledVideo(
        video_id=info.name,
        files=info.frames,
        numbers=info.frames.numbers,
        width=info.width,
        height=info.height,
        boxes=list(read_truth(truth, len(info.frames))),
        looked_at=info.frames.numbers,
        source=str(truth),
    )


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
    counts from 1) and are clipped to the image. Confidence 0 becomes `iscrowd` 1, a negative id is
    no track id.

    Args:
        name: the dataset's name in configs.
        sequences: folders of sequences; a folder of sequences stands for all of them.
        classes: names from `MOT_CLASSES`, in the order of `category_id`; lines of other classes
            are left out and counted. Lines without a class (MOT15) are of the one class given,
            which may then have any name.
        frames: first and last frame, inclusive and counted from 1 as in MOTChallenge; all if
            left out.
        annotated_only: see `register_videos`.
        confine_refs: see `register_videos`.

    Raises:
        ValueError: no sequence, no class, a class twice, or a range that is empty.
    """
    if isinstance(sequences, str | Path):
        sequences = [sequences]
    folders = [Path(sequence).expanduser() for sequence in sequences]
    if not folders:
        raise ValueError(f"the dataset {name!r} needs at least one sequence")
    class_names = (classes,) if isinstance(classes, str) else tuple(classes)
    unknown = set(class_names) - set(MOT_CLASSES.values())
    if len(class_names) > 1 and unknown:
        raise ValueError(
            f"unknown MOTChallenge classes {sorted(unknown)}; known are "
            f"{', '.join(MOT_CLASSES.values())}"
        )
    if frames is not None and not 1 <= frames[0] <= frames[1]:
        raise ValueError(f"the frames must be 1 <= first <= last, got {frames}")

    def read(check: BoxCheck) -> tuple[list[LabelledVideo], list[str]]:
        found = [sequence for folder in folders for sequence in find_sequences(folder)]
        return [_read_sequence(sequence) for sequence in found], list(MOT_CLASSES.values())

    register_videos(
        name,
        read,
        folders[0],
        classes=class_names,
        frames=frames,
        annotated_only=annotated_only,
        confine_refs=confine_refs,
    )
