"""What a config's datasets know of the video at hand: names and ids of classes, and its frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2.data.catalog import category_ids_of
from iff_detectron2.evaluation.operating_point import OPERATING_POINT_FILE, load_operating_point
from iff_detectron2.predictions import frame_of
from iff_detectron2.video.sources import FrameSource

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Classes:
    """What class numbers stand for in files; both None where no dataset is known.

    Attributes:
        names: name of each class.
        ids: the dataset's own id of each class.
    """

    names: list[str] | None = None
    ids: list[int] | None = None


def known_classes(cfg: CfgNode) -> Classes:
    """Return the classes of the config's test or training set."""
    for name in _datasets(cfg):
        names = MetadataCatalog.get(name).get("thing_classes", None)
        if names is not None:
            return Classes(list(names), category_ids_of(name))
    return Classes()


def frames_of_source(
    cfg: CfgNode, source: FrameSource, num_frames: int
) -> tuple[list[dict[str, Any]], str]:
    """Return what to call the first frames of a video in files of predictions.

    If a dataset of the config lists all of them as one video, they are called as it calls them, so
    that the predictions can be evaluated on it as they are. Else the frame index is the image id,
    and the source's name the video id.

    Args:
        cfg: whose datasets are asked.
        source: the video.
        num_frames: how many frames of it.

    Returns:
        One dict per frame, and the name of the dataset, empty for none.
    """
    wanted = [source.frame_name(index) for index in range(num_frames)]
    for name in _datasets(cfg) if None not in wanted and wanted else ():
        try:
            records = DatasetCatalog.get(name)
        except FileNotFoundError:
            continue  # trained on it elsewhere: the video cannot be one of its own
        of_file = {_full_name(record["file_name"]): record for record in records}
        found = [of_file.get(_full_name(file)) for file in wanted if file is not None]
        frames = [frame_of(record) for record in found if record is not None]
        if len(frames) == num_frames and len({frame.get("video_id") for frame in frames}) == 1:
            return frames, name
    plain = [
        {"image_id": index, "video_id": source.name, "frame_index": index}
        for index in range(num_frames)
    ]
    return plain, ""


def operating_threshold(cfg: CfgNode) -> tuple[float, str]:
    """Return the score to draw detections from, and why.

    It is that of the best F1, where an evaluation of these weights has left its file: in the folder
    of the weights, or in the folder of an evaluation of the test set beside them.

    Raises:
        ValueError: for a damaged file.
    """
    folder = Path(cfg.MODEL.WEIGHTS or ".").parent
    for place in (folder, *(folder / "inference" / name for name in cfg.DATASETS.TEST)):
        path = place / OPERATING_POINT_FILE
        point = load_operating_point(path) if cfg.MODEL.WEIGHTS and path.is_file() else None
        if point is not None:
            return point.score, (
                f"drawn from score {point.score:.2f}, where F1 is best (precision "
                f"{point.precision:.2f}, recall {point.recall:.2f}; {path})"
            )
    return DEFAULT_THRESHOLD, f"drawn from score {DEFAULT_THRESHOLD}"


def _datasets(cfg: CfgNode) -> Iterator[str]:
    for name in dict.fromkeys((*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)):
        if name in DatasetCatalog:
            yield name


def _full_name(file_name: str) -> str:
    """Return the one name of a file, links in its folder resolved."""
    folder, name = os.path.split(file_name)
    return os.path.join(_real_folder(folder), name)


@lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
