"""All checks of a registered dataset."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2.data.datasets.imagenet import annotation_reader

from .boxes import check_boxes
from .figures import check_figures
from .files import check_files
from .identity import by_video, check_identity
from .report import Finding, Level, Report, finding
from .temporal import check_temporal
from .tracks import check_tracks

_SIZES = 3


def examine(name: str, decode: bool = False) -> Report:
    """Check a dataset through its dataset dicts and its frame index, whatever its format.

    Args:
        name: a registered dataset. One that was read before in this process does not repeat the
            warnings of its reader.
        decode: decode every frame instead of reading headers.

    Returns:
        The report; `unreadable` says why a dataset could not be read.
    """
    report = Report(name)
    if name not in DatasetCatalog:
        known = ", ".join(sorted(DatasetCatalog.keys()))
        report.unreadable = f"it is not registered; registered are {known}"
        return report
    metadata = MetadataCatalog.get(name)
    with _messages() as messages:
        try:
            dicts = DatasetCatalog.get(name)
            frame_index = metadata.get("frame_index")
            videos = dict(frame_index()) if frame_index is not None else {}
            class_names = list(metadata.get("thing_classes") or ())
        except (OSError, ValueError) as error:
            report.unreadable = str(error)
            report.findings += _unreadable_annotations(metadata)
            return report
    report.findings += [Finding(level, "reader", message) for level, message in messages]
    if not any("annotations" in record for record in dicts):
        text = "no labels: it can be predicted on, not trained on and not evaluated"
        report.findings.append(Finding("note", "labels", text))
    identity = check_identity(dicts, videos)
    boxes = check_boxes(dicts, class_names)
    tracks, of_tracks = check_tracks(dicts)
    spec = metadata.get("register_spec")
    read_as = {"read_as": spec} if spec else {}
    report.summary = {**read_as, **_summary(dicts, videos, class_names), **of_tracks}
    temporal = check_temporal(dicts, videos, class_names)
    files = check_files(dicts, videos, decode)
    report.findings += [*identity, *files, *boxes, *tracks, *temporal]
    if not any(f.check == "classes" and f.level == "problem" for f in boxes):
        motion = of_tracks.get("motion_percent")
        image_set = metadata.get("image_set")
        report.findings += check_figures(dicts, name, class_names, image_set, motion)
    return report


@contextmanager
def _messages() -> Iterator[list[tuple[Level, str]]]:
    """Return what the readers warn of and tell; news of their cache is left out."""
    messages: list[tuple[Level, str]] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name != annotation_reader.__name__:
                warns = record.levelno >= logging.WARNING
                messages.append(("problem" if warns else "note", record.getMessage()))

    logger, collector = logging.getLogger("iff_detectron2"), Collector(logging.INFO)
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield messages
    finally:
        logger.setLevel(level)
        logger.removeHandler(collector)


def _unreadable_annotations(metadata: Any) -> list[Finding]:
    """All annotation files that cannot be read, where the format has a file for each image."""
    annotation_files = metadata.get("annotation_files")
    if annotation_files is None:
        return []
    try:
        paths = annotation_files()
    except (OSError, ValueError):
        return []  # the list itself is at fault, and that is told already
    bad = annotation_reader.find_unreadable(list(dict.fromkeys(paths)), "looking for all of them")
    reasons = [reason for _, reason in bad]
    return finding("problem", "annotations", "annotation files that cannot be read", reasons)


def _summary(
    dicts: Sequence[dict[str, Any]], videos: dict[str, Sequence[str]], class_names: Sequence[str]
) -> dict[str, Any]:
    boxes: Counter[str] = Counter()
    for record in dicts:
        for annotation in record.get("annotations", ()):
            category = annotation.get("category_id")
            known = isinstance(category, int) and 0 <= category < len(class_names)
            boxes[class_names[category] if known else f"category {category}"] += 1
    sizes = Counter(f"{d['width']}x{d['height']}" for d in dicts if "width" in d and "height" in d)
    shown = dict(sizes.most_common(_SIZES))
    if len(sizes) > _SIZES:
        shown["other"] = sizes.total() - sum(shown.values())
    return {
        "images": len(dicts),
        "without_boxes": sum(not record.get("annotations") for record in dicts),
        "videos": len(by_video(dicts)),
        "frames_of_videos": sum(map(len, videos.values())),
        "boxes": boxes.total(),
        "boxes_of_class": {name: boxes[name] for name in [*class_names, *boxes] if boxes[name]},
        "sizes": shown,
    }
