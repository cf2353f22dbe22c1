"""Does a copy of ImageNet VID count what ImageNet VID counts?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from iff_detectron2.data.datasets import IMAGENET_VID_CLASSES
from iff_detectron2.data.datasets.imagenet.known_figures import IMAGENET_FIGURES
from iff_detectron2.data.datasets.imagenet.list_rules import train_frame_indices

from .identity import by_video
from .report import Finding, finding

Record = Mapping[str, Any]
_SHARE_TOLERANCE = 0.5  # percent of the boxes; the figures have one digit


def check_figures(
    dicts: Sequence[Record],
    name: str,
    class_names: Sequence[str],
    image_set: str | None,
    motion_percent: Mapping[str, float] | None,
) -> list[Finding]:
    """Compare counts with those of ImageNet VID, and listed frames with the rule of their list.

    Counts are compared if the dataset has ImageNet VID's classes and either its name in the
    catalogs or its names of videos; other sets may have lists of the same name.

    Args:
        dicts: dataset dicts.
        name: name of the dataset.
        class_names: `thing_classes` of the dataset.
        image_set: its list in `ImageSets`, None for other layouts.
        motion_percent: share of each motion category, None where it is not known.
    """
    findings: list[Finding] = []
    if image_set == "VID_train_15frames":
        findings += _check_rule(dicts)
    known = IMAGENET_FIGURES.get(image_set or "")
    if known is None or tuple(class_names) != tuple(IMAGENET_VID_CLASSES.values()):
        return findings
    if not name.startswith("imagenet_") and "ILSVRC" not in _released_name(dicts[0]):
        return findings
    categories = [a.get("category_id") for d in dicts for a in d.get("annotations", ())]
    boxes = Counter(class_names[number] for number in categories if number is not None)
    wrong = [
        f"{what}: {ours}, ImageNet VID has {theirs}"
        for what, ours, theirs in (
            ("images", len(dicts), known.images),
            ("different images", len({d["file_name"] for d in dicts}), known.files),
            ("videos", len(by_video(dicts)), known.videos),
            *((f"boxes of {c}", boxes[c], count) for c, count in known.boxes.items()),
        )
        if ours != theirs
    ]
    if motion_percent is not None:
        wrong += [
            f"{motion} boxes: {motion_percent[motion]:.1f} %, ImageNet VID has {share} %"
            for motion, share in known.motion_shares.items()
            if abs(motion_percent[motion] - share) > _SHARE_TOLERANCE
        ]
    return [
        *findings,
        *finding(
            "problem", "figures", f"counts that differ from ImageNet VID's {image_set}", wrong
        ),
    ]


def _released_name(record: Record) -> str:
    """Return what names a video, or a still below `Data/DET`."""
    return record.get("video_id") or record["file_name"].partition("/Data/DET/")[2]


def _check_rule(dicts: Sequence[Record]) -> Iterator[Finding]:
    """Notice a list that was made with another base: all its frames are one off their bins."""
    shifts: Counter[int] = Counter()
    for records in by_video(dicts).values():
        rule = train_frame_indices(records[0]["video_length"])
        listed = [record["frame_index"] for record in records]
        off = {frame - right for frame, right in zip(listed, rule, strict=False)}
        if len(listed) == len(rule) and len(off) == 1:
            shifts[off.pop()] += 1
    for shift, count in shifts.items():
        if abs(shift) == 1:
            way = "later" if shift == 1 else "earlier"
            text = (
                f"videos whose listed frames are one frame {way} than the rule of 15 frames; the "
                "list must count frames from 0"
            )
            yield Finding("problem", "frame numbers", text, count)
