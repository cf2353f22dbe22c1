"""Writes videos in the layout of ImageNet VID: JPEG frames and one XML a frame."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from .casting import Role, video_folder
from .classes import MOVING_SHAPES_CLASSES
from .options import MovingShapesOptions
from .scene import Annotation, Scene
from .storage import content_digest, video_files

JPEG_QUALITY = 90
EXCERPT_FRAMES = 7


@dataclass(frozen=True)
class Excerpt:
    """A few successive frames of one object, for the contact sheet.

    Attributes:
        folder: video folder.
        category_id: class of the object.
        first_frame: first frame of the excerpt.
        boxes: box of the object in each frame, None where it has none.
        kinds: deterioration in each frame, None where it is clear.
        diameter: size of the object in pixels.
    """

    folder: str
    category_id: int
    first_frame: int
    boxes: tuple[tuple[int, int, int, int] | None, ...]
    kinds: tuple[str | None, ...]
    diameter: float


@dataclass
class VideoRecord:
    """What was written of a video.

    Attributes:
        folder: video folder below `Data/VID`.
        num_frames: frames of the video.
        empty_frames: frames without an object.
        occluded_boxes: boxes with `<occluded>1`.
        digest: of the content of its files, see `content_digest`.
        boxes: number of boxes of each class.
        deteriorations: number of boxes of each kind of deterioration.
        excerpts: candidates for the contact sheet.
    """

    folder: str
    num_frames: int
    empty_frames: int = 0
    occluded_boxes: int = 0
    digest: str = ""
    boxes: Counter[str] = field(default_factory=Counter)
    deteriorations: Counter[str] = field(default_factory=Counter)
    excerpts: list[Excerpt] = field(default_factory=list)


def write_video(
    root: Path, options: MovingShapesOptions, split: str, index: int, roles: list[Role]
) -> VideoRecord:
    """Draw a video and write its frames and annotations below the dataset root.

    Args:
        root: of the dataset.
        options: of the set.
        split: `train` or `val`.
        index: number of the video in its split.
        roles: one for each object.
    """
    scene = Scene(options, split, index, roles)
    folder = video_folder(split, index)
    frame_dir = root / "Data" / "VID" / folder
    xml_dir = root / "Annotations" / "VID" / folder
    frame_dir.mkdir(parents=True, exist_ok=True)
    xml_dir.mkdir(parents=True, exist_ok=True)
    record = VideoRecord(folder, scene.num_frames)
    history: list[list[Annotation]] = []
    for frame in range(scene.num_frames):
        image, annotations = scene.render(frame)
        (frame_dir / f"{frame:06d}.JPEG").write_bytes(encode_jpeg(image))
        xml = annotation_xml(folder, frame, options.size, annotations)
        (xml_dir / f"{frame:06d}.xml").write_text(xml, encoding="ascii")
        record.empty_frames += not annotations
        for annotation in annotations:
            record.occluded_boxes += annotation.occluded
            record.boxes[MOVING_SHAPES_CLASSES[annotation.category_id]] += 1
            if annotation.deterioration is not None:
                record.deteriorations[annotation.deterioration] += 1
        history.append(annotations)
    record.excerpts = _excerpts(folder, scene, history)
    record.digest = content_digest(video_files(root, folder, scene.num_frames))
    return record


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encode a uint8 BGR image as JPEG."""
    done, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RuntimeError(f"OpenCV could not encode a JPEG of {image.shape[1]}x{image.shape[0]}")
    return code.tobytes()


def annotation_xml(
    folder: str, frame: int, size: tuple[int, int], annotations: list[Annotation]
) -> str:
    """Text of a frame's XML, elements as in ImageNet VID.

    Args:
        folder: of the video.
        frame: number of the frame.
        size: width and height in pixels.
        annotations: boxes of the frame.
    """
    objects = "".join(
        f"\t<object>\n\t\t<trackid>{a.track_id}</trackid>\n"
        f"\t\t<name>{MOVING_SHAPES_CLASSES[a.category_id]}</name>\n\t\t<bndbox>\n"
        f"\t\t\t<xmax>{a.box[2]}</xmax>\n\t\t\t<xmin>{a.box[0]}</xmin>\n"
        f"\t\t\t<ymax>{a.box[3]}</ymax>\n\t\t\t<ymin>{a.box[1]}</ymin>\n\t\t</bndbox>\n"
        f"\t\t<occluded>{int(a.occluded)}</occluded>\n\t\t<generated>0</generated>\n"
        "\t</object>\n"
        for a in annotations
    )
    return (
        f"<annotation>\n\t<folder>{folder.rpartition('/')[2]}</folder>\n"
        f"\t<filename>{frame:06d}</filename>\n"
        "\t<source>\n\t\t<database>MovingShapes</database>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{size[0]}</width>\n\t\t<height>{size[1]}</height>\n\t</size>\n"
        f"{objects}</annotation>\n"
    )


def _excerpts(folder: str, scene: Scene, history: list[list[Annotation]]) -> list[Excerpt]:
    """For each object: its beginning, and what surrounds each of its own bad moments."""
    length = min(EXCERPT_FRAMES, scene.num_frames)
    excerpts = []
    for number, actor in enumerate(scene.actors):
        for start in [0, *(run.start - (length - run.length) // 2 for run in actor.runs)]:
            first = min(max(start, 0), scene.num_frames - length)
            shown = [
                next((a for a in annotations if a.track_id == number), None)
                for annotations in history[first : first + length]
            ]
            excerpts.append(
                Excerpt(
                    folder=folder,
                    category_id=actor.category_id,
                    first_frame=first,
                    boxes=tuple(a.box if a else None for a in shown),
                    kinds=tuple(a.deterioration if a else None for a in shown),
                    diameter=actor.diameter,
                )
            )
    return excerpts
