"""Writers of the annotation formats that the package reads; what they write, the readers must find.

Each takes the dataset dicts of a `Split`, writes files below a folder and returns the spec with
which `DATASETS.REGISTER` reads them. They share no code with the readers of what they write.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from iff_detectron2.data.datasets.imagenet.vid import load_imagenet_vid
from iff_detectron2.data.moving_shapes import MOVING_SHAPES_CLASSES, generate_moving_shapes

# MOTChallenge has its own classes: the first ones stand in for those of the set.
MOT_NAMES = (
    *("pedestrian", "person_on_vehicle", "car", "bicycle"),
    *("motorbike", "non_motorized_vehicle", "static_person", "distractor"),
)


@dataclass(frozen=True)
class Split:
    """A labelled set.

    Attributes:
        root: folder that all frames are below.
        dicts: dataset dicts of the listed frames.
        videos: files of all frames of each video.
        classes: class names.
    """

    root: Path
    dicts: Sequence[dict[str, Any]]
    videos: dict[str, Sequence[str]]
    classes: Sequence[str]

    def relative(self, file_name: str) -> str:
        return str(Path(file_name).relative_to(self.root))


def generate_split(root: Path) -> Split:
    """Three MovingShapes videos of 20 frames, of which 15 are listed, the first and the last too.

    The other frames count as unlabelled.
    """
    generate_moving_shapes(
        root,
        num_train_videos=3,
        num_val_videos=0,
        num_frames=20,
        size=(96, 64),
        num_workers=1,
        progress=False,
    )
    classes = {name: name for name in MOVING_SHAPES_CLASSES}
    dicts, index = load_imagenet_vid("generated", root, "VID_train_15frames", classes)
    return Split(root / "Data/VID", dicts, dict(index), MOVING_SHAPES_CLASSES)


def category_id(number: int) -> int:
    """Ids with gaps, as COCO's own have."""
    return 10 * number + 3


def categories(split: Split) -> list[dict]:
    records = [{"id": category_id(k), "name": name} for k, name in enumerate(split.classes)]
    return records[::-1]  # their order in the file must not matter


def xywh(annotation: dict) -> list[float]:
    x1, y1, x2, y2 = annotation["bbox"]
    return [x1, y1, x2 - x1, y2 - y1]


def dump(path: Path, content: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco_annotations(split: Split, track_key: str | None) -> list[dict]:
    records: list[dict] = []
    for record in split.dicts:
        for a in record["annotations"]:
            annotation = {
                "id": len(records) + 1,
                "image_id": record["image_id"],
                "category_id": category_id(a["category_id"]),
                "bbox": xywh(a),
                "area": xywh(a)[2] * xywh(a)[3],
                "iscrowd": 0,
            }
            if track_key:
                annotation[track_key] = a["track_id"]
            records.append(annotation)
    return records


def coco_images(split: Split) -> list[dict]:
    return [
        {
            "id": record["image_id"],
            "file_name": split.relative(record["file_name"]),
            "width": record["width"],
            "height": record["height"],
        }
        for record in split.dicts
    ]


def write_coco_vid(split: Split, folder: Path, track_key: str = "instance_id") -> str:
    """mmtracking's CocoVID."""
    names = list(split.videos)
    images = coco_images(split)
    for image, record in zip(images, split.dicts, strict=True):
        image["video_id"] = names.index(record["video_id"]) + 1
        image["frame_id"] = record["frame_index"]
    content = {
        "videos": [{"id": k, "name": name} for k, name in enumerate(names, start=1)],
        "images": images,
        "annotations": coco_annotations(split, track_key),
        "categories": categories(split),
    }
    return f"coco_vid:{split.root}@{dump(folder / 'coco_vid.json', content)}"


def write_coco_frames(split: Split, folder: Path) -> str:
    """Plain COCO: no videos, no tracks."""
    content = {
        "images": coco_images(split),
        "annotations": coco_annotations(split, None),
        "categories": categories(split),
    }
    return f"coco_frames:{split.root}@{dump(folder / 'coco.json', content)}"


def write_youtube_vis(split: Split, folder: Path) -> str:
    """One record a track. A video lists its labelled frames only."""
    names = list(split.videos)
    listed: dict[str, list[dict]] = {name: [] for name in names}
    for record in split.dicts:
        listed[record["video_id"]].append(record)
    tracks: dict[tuple, dict] = {}
    for name, records in listed.items():
        for number, record in enumerate(records):
            for a in record["annotations"]:
                track = tracks.setdefault(
                    (name, a["track_id"], a["category_id"]),
                    {
                        "id": len(tracks) + 1,
                        "video_id": names.index(name) + 1,
                        "category_id": category_id(a["category_id"]),
                        "iscrowd": 0,
                        "bboxes": [None] * len(records),
                    },
                )
                track["bboxes"][number] = xywh(a)
    content = {
        "videos": [
            {
                "id": k,
                "file_names": [split.relative(r["file_name"]) for r in listed[name]],
                "width": listed[name][0]["width"],
                "height": listed[name][0]["height"],
                "length": len(listed[name]),
            }
            for k, name in enumerate(names, start=1)
        ],
        "annotations": list(tracks.values()),
        "categories": categories(split),
    }
    return f"youtube_vis:{split.root}@{dump(folder / 'youtube_vis.json', content)}"


def write_video(path: Path, frames: Sequence[np.ndarray], codec: str = "FFV1") -> None:
    """Return a lossless video, unless another codec is asked for."""
    height, width = frames[0].shape[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 25.0, (width, height))
    assert writer.isOpened(), f"this OpenCV cannot write {codec} into {path.suffix}"
    for frame in frames:
        writer.write(frame)
    writer.release()


def write_video_files(split: Split, folder: Path) -> str:
    """Lossless videos and labels by frame number."""
    names = list(split.videos)
    for name, files in split.videos.items():
        write_video(folder / f"{name}.avi", [cv2.imread(file) for file in files])
    images = [
        {
            "id": record["image_id"],
            "video_id": names.index(record["video_id"]) + 1,
            "frame_id": record["frame_index"],
        }
        for record in split.dicts
    ]
    content = {
        "videos": [
            {"id": k, "name": name, "file_name": f"{name}.avi"}
            for k, name in enumerate(names, start=1)
        ],
        "images": images,
        "annotations": coco_annotations(split, "track_id"),
        "categories": categories(split),
    }
    return f"video_files:{folder}@{dump(folder / 'videos.json', content)}"


def write_mot_challenge(split: Split, folder: Path) -> str:
    """Return a folder of sequences, frames numbered from 1."""
    for number, (name, files) in enumerate(split.videos.items()):
        sequence = folder / f"{number:03d}"
        (sequence / "img1").mkdir(parents=True)
        (sequence / "gt").mkdir()
        for frame, file in enumerate(files, start=1):
            shutil.copy(file, sequence / f"img1/{frame:06d}.jpg")
        records = [r for r in split.dicts if r["video_id"] == name]
        (sequence / "seqinfo.ini").write_text(
            f"[Sequence]\nname={name}\nimDir=img1\nframeRate=25\nseqLength={len(files)}\n"
            f"imWidth={records[0]['width']}\nimHeight={records[0]['height']}\nimExt=.jpg\n"
        )
        lines = [
            ",".join(
                map(str, [r["frame_index"] + 1, a["track_id"], *xywh(a), 1, a["category_id"] + 1])
            )
            + ",1"
            for r in records
            for a in r["annotations"]
        ]
        (sequence / "gt/gt.txt").write_text("\n".join(lines))
    return f"mot_challenge:{folder}"


WRITERS: dict[str, Callable[[Split, Path], str]] = {
    "coco_vid": write_coco_vid,
    "youtube_vis": write_youtube_vis,
    "coco_frames": write_coco_frames,
    "video_files": write_video_files,
    "mot_challenge": write_mot_challenge,
}
