"""Writers of the annotation formats that the package reads; what they write, the readers must find.

Each takes the dataset dicts of a `Split`, writes files below a folder and returns the spec with
which `DATASETS.REGISTER` reads them. They share no code with the readers of what they write.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util

from iff_detectron2.data.datasets.imagenet.vid import load_imagenet_vid
from iff_detectron2.data.moving_shapes import MOVING_SHAPES_CLASSES, generate_moving_shapes

# MOTChallenge has its own classes: the first ones stand in for those of the set.
MOT_NAMES = (
    *("pedestrian", "person_on_vehicle", "car", "bicycle"),
    *("motorbike", "non_motorized_vehicle", "static_person", "distractor"),
)
# So have VisDrone, KITTI and UA-DETRAC, which has only four.
VISDRONE_NAMES = (
    *("pedestrian", "people", "bicycle", "car", "van"),
    *("truck", "tricycle", "awning-tricycle"),
)
KITTI_NAMES = ("Car", "Van", "Truck", "Pedestrian", "Person", "Cyclist", "Tram", "Misc")
DETRAC_NAMES = ("car", "bus", "van", "others")
STAND_INS = {
    "mot_challenge": MOT_NAMES,
    "visdrone": VISDRONE_NAMES,
    "kitti_tracking": KITTI_NAMES,
    "ua_detrac": DETRAC_NAMES * 2,
}


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


def copy_frames(split: Split, folder: Path, name: str, form: str, first: int = 0) -> None:
    """Put the frames of a video into a folder, under the names of a format."""
    folder.mkdir(parents=True)
    for number, file in enumerate(split.videos[name], start=first):
        shutil.copy(file, folder / form.format(number))


def records_of(split: Split, name: str) -> list[dict[str, Any]]:
    return [record for record in split.dicts if record["video_id"] == name]


def write_lines(path: Path, lines: Sequence[Sequence[Any]], separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(map(str, line)) + "\n" for line in lines))


def write_visdrone(split: Split, folder: Path) -> str:
    """VisDrone-VID, frames counted from 1."""
    for number, name in enumerate(split.videos):
        sequence = f"uav{number:07d}"
        copy_frames(split, folder / "sequences" / sequence, name, "{:07d}.jpg", first=1)
        lines = [
            [r["frame_index"] + 1, a["track_id"], *xywh(a), 1, a["category_id"] + 1, 0, 1]
            for r in records_of(split, name)
            for a in r["annotations"]
        ]
        write_lines(
            folder / f"annotations/{sequence}.txt", [*lines, [1, 7, 0, 0, 9, 9, 0, 0, 0, 0]]
        )
    return f"visdrone:{folder}"


def write_kitti_tracking(split: Split, folder: Path) -> str:
    """KITTI tracking, frames counted from 0."""
    for number, name in enumerate(split.videos):
        copy_frames(split, folder / f"image_02/{number:04d}", name, "{:06d}.jpg")
        rest = [-1] * 7
        lines = [
            [
                *(r["frame_index"], a["track_id"], KITTI_NAMES[a["category_id"]], 0, 0, -10),
                *(*a["bbox"], *rest),
            ]
            for r in records_of(split, name)
            for a in r["annotations"]
        ]
        lines.append([0, -1, "DontCare", -1, -1, -10, 1, 1, 9, 9, *rest])
        write_lines(folder / f"label_02/{number:04d}.txt", lines, " ")
    return f"kitti_tracking:{folder}/image_02@{folder}/label_02"


def write_ua_detrac(split: Split, folder: Path) -> str:
    """UA-DETRAC, frames counted from 1, four classes in turn."""
    (folder / "xml").mkdir()
    for number, name in enumerate(split.videos):
        copy_frames(split, folder / f"MVI_{number}", name, "img{:05d}.jpg", first=1)
        frames = ""
        for r in records_of(split, name):
            targets = ""
            for a in r["annotations"]:
                left, top, width, height = xywh(a)
                kind = DETRAC_NAMES[a["category_id"] % 4]
                targets += (
                    f'<target id="{a["track_id"]}"><box left="{left}" top="{top}" width="{width}" '
                    f'height="{height}"/><attribute orientation="18.5" speed="6.9" '
                    f'trajectory_length="5" truncation_ratio="0.1" vehicle_type="{kind}"/></target>'
                )
            if targets:
                frames += (
                    f'<frame density="{len(r["annotations"])}" num="{r["frame_index"] + 1}">'
                    f"<target_list>{targets}</target_list></frame>"
                )
        (folder / f"xml/MVI_{number}.xml").write_text(
            f'<?xml version="1.0" encoding="utf-8"?><sequence name="MVI_{number}">'
            '<sequence_attribute camera_state="stable" sence_weather="sunny"/><ignored_region>'
            f'<box left="1" top="1" width="9" height="9"/></ignored_region>{frames}</sequence>'
        )
    return f"ua_detrac:{folder}@{folder}/xml"


def write_cvat_mot(split: Split, folder: Path) -> str:
    """CVAT's MOT export with images: frame_000000 is line 1 of gt.txt."""
    for number, name in enumerate(split.videos):
        export = folder / f"task_{number}"
        copy_frames(split, export / "img1", name, "frame_{:06d}.jpg")
        lines = [
            [r["frame_index"] + 1, a["track_id"], *xywh(a), 1, a["category_id"] + 1, 1.0]
            for r in records_of(split, name)
            for a in r["annotations"]
        ]
        write_lines(export / "gt/gt.txt", lines)
        (export / "gt/labels.txt").write_text("\n".join(split.classes))
    return f"cvat_mot:{folder}"


def by_track(split: Split, name: str) -> dict[tuple[int, int], list[tuple[dict, dict]]]:
    """Return records and annotations of each track and class, by their first frames."""
    tracks: dict[tuple[int, int], list[tuple[dict, dict]]] = {}
    for record in records_of(split, name):
        for a in record["annotations"]:
            tracks.setdefault((a["track_id"], a["category_id"]), []).append((record, a))
    return tracks


def write_cvat_video(split: Split, folder: Path) -> str:
    """CVAT for video 1.1: a lossless video and an XML file per task."""
    (folder / "xml").mkdir()
    labels = "".join(
        f"<label><name>{name}</name><color>#b83df5</color><type>any</type><attributes>"
        "</attributes></label>"
        for name in split.classes
    )
    for number, (name, files) in enumerate(split.videos.items()):
        write_video(folder / f"clip{number}.avi", [cv2.imread(file) for file in files])
        tracks = ""
        for (track, class_id), places in by_track(split, name).items():
            boxes = ""
            for record, a in places:
                x1, y1, x2, y2 = a["bbox"]
                corners = f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0"'
                for frame, outside in ((record["frame_index"], 0), (record["frame_index"] + 1, 1)):
                    boxes += (
                        f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" '
                        f"{corners}></box>\n"
                    )
            label = split.classes[class_id]
            tracks += f'<track id="{track}" label="{label}" source="manual">{boxes}</track>\n'
        height, width = cv2.imread(files[0]).shape[:2]
        (folder / f"xml/{number}.xml").write_text(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta>'
            f"<task><id>{number}</id><name>task</name><size>{len(files)}</size><mode>interpolation</mode>"
            f"<start_frame>0</start_frame><stop_frame>{len(files) - 1}</stop_frame><frame_filter>"
            f"</frame_filter><labels>{labels}</labels><original_size><width>{width}</width>"
            f"<height>{height}</height></original_size><source>clip{number}.avi</source></task>"
            f"<dumped>2024-01-01</dumped></meta>{tracks}</annotations>"
        )
    return f"cvat_video:{folder}@{folder}/xml@annotated_only"


def write_label_studio(split: Split, folder: Path) -> str:
    """Label Studio's JSON: boxes in percent, each key frame the end of a lifespan."""
    tasks = []
    for number, (name, files) in enumerate(split.videos.items()):
        write_video(folder / f"clip{number}.avi", [cv2.imread(file) for file in files])
        results = []
        for (track, class_id), places in by_track(split, name).items():
            sequence = []
            for record, a in places:
                x, y, width, height = xywh(a)
                sequence.append(
                    {
                        "frame": record["frame_index"] + 1,
                        "enabled": False,
                        "rotation": 0,
                        "x": x / record["width"] * 100,
                        "y": y / record["height"] * 100,
                        "width": width / record["width"] * 100,
                        "height": height / record["height"] * 100,
                        "time": (record["frame_index"] + 1) / 25,
                    }
                )
            value = {"framesCount": len(files), "duration": len(files) / 25, "sequence": sequence}
            results.append(
                {
                    "id": f"track{track}",
                    "type": "videorectangle",
                    "value": {**value, "labels": [split.classes[class_id]]},
                    "origin": "manual",
                    "to_name": "video",
                    "from_name": "box",
                }
            )
        annotation = {"id": number, "result": results, "was_cancelled": False}
        data = {"video": f"/data/upload/1/0a1b2c3d-clip{number}.avi"}
        tasks.append({"id": number + 1, "annotations": [annotation], "data": data})
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    return f"label_studio:{folder}@{path}@annotated_only"


def write_via_csv(split: Split, folder: Path) -> str:
    """VIA 2: one line per region, one without a region for an image that has none."""
    with (folder / "via.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            [
                *("filename", "file_size", "file_attributes", "region_count", "region_id"),
                *("region_shape_attributes", "region_attributes"),
            ]
        )
        for record in split.dicts:
            name, found = split.relative(record["file_name"]), record["annotations"]
            for number, a in enumerate(found):
                x, y, width, height = xywh(a)
                shape = {"name": "rect", "x": x, "y": y, "width": width, "height": height}
                about = {"class": split.classes[a["category_id"]], "track": str(a["track_id"])}
                row = [name, -1, "{}", len(found), number, json.dumps(shape), json.dumps(about)]
                writer.writerow(row)
            if not found:
                writer.writerow([name, -1, "{}", 0, 0, "{}", "{}"])
    return f"via_csv:{split.root}@{folder}/via.csv"


def write_yolo(split: Split, folder: Path) -> str:
    """Ultralytics' layout with track ids; an unlabelled image has no text file."""
    (folder / "images/train").mkdir(parents=True)
    for number, (name, files) in enumerate(split.videos.items()):
        for frame, file in enumerate(files):
            shutil.copy(file, folder / f"images/train/clip{number}_{frame:04d}.jpg")
        for record in records_of(split, name):
            width, height = record["width"], record["height"]
            lines = []
            for a in record["annotations"]:
                x, y, w, h = xywh(a)
                centre = ((x + w / 2) / width, (y + h / 2) / height)
                lines.append([a["category_id"], *centre, w / width, h / height, a["track_id"]])
            frame = record["frame_index"]
            write_lines(folder / f"labels/train/clip{number}_{frame:04d}.txt", lines, " ")
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(split.classes))
    (folder / "data.yaml").write_text(f"path: .\ntrain: images/train\nnames:\n{names}")
    return f"yolo:{folder}@train"


def write_burst(split: Split, folder: Path) -> str:
    """BURST: rectangles as masks."""
    sequences = []
    for name, files in split.videos.items():
        records, classes, masks = records_of(split, name), {}, []
        for record in records:
            of_frame = {}
            for a in record["annotations"]:
                x1, y1, x2, y2 = (int(v) for v in a["bbox"])
                mask = np.zeros((record["height"], record["width"]), np.uint8, order="F")
                mask[y1:y2, x1:x2] = 1
                rle = mask_util.encode(mask)["counts"].decode()
                of_frame[str(a["track_id"])] = {"rle": rle, "is_gt": True}
                classes[str(a["track_id"])] = category_id(a["category_id"])
            masks.append(of_frame)
        dataset, _, sequence = name.partition("/")
        sequences.append(
            {
                "dataset": dataset,
                "seq_name": sequence,
                "width": records[0]["width"],
                "height": records[0]["height"],
                "all_image_paths": [Path(file).name for file in files],
                "annotated_image_paths": [Path(r["file_name"]).name for r in records],
                "segmentations": masks,
                "track_category_ids": classes,
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
            }
        )
    content = {"sequences": sequences, "categories": categories(split), "split": "train"}
    return f"burst:{split.root}@{dump(folder / 'burst.json', content)}"


WRITERS: dict[str, Callable[[Split, Path], str]] = {
    "coco_vid": write_coco_vid,
    "youtube_vis": write_youtube_vis,
    "coco_frames": write_coco_frames,
    "video_files": write_video_files,
    "mot_challenge": write_mot_challenge,
    "burst": write_burst,
    "visdrone": write_visdrone,
    "kitti_tracking": write_kitti_tracking,
    "ua_detrac": write_ua_detrac,
    "cvat_mot": write_cvat_mot,
    "cvat_video": write_cvat_video,
    "label_studio": write_label_studio,
    "via_csv": write_via_csv,
    "yolo": write_yolo,
}
