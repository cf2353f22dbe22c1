"""COCO-VID: COCO's JSON with videos and track ids, as mmtracking and others write it.

`videos`: `id`, `name`. `images`: `id`, `video_id`, `frame_id`, `file_name`, `width`, `height`.
`annotations`: `id`, `image_id`, `category_id`, `bbox` (x, y, width, height), `instance_id`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iff_detectron2.data.catalog import LoadedDataset
from iff_detectron2.data.datasets.frame_folder import (
    FramePosition,
    UnlistedFrames,
    check_unlisted,
    complete_video,
)
from iff_detectron2.data.datasets.json_file import Record, integer, reference

from .images import (
    ImageAnnotations,
    frame_size,
    register_from_file,
)

# The number of a frame: in mmtracking's files, and in TAO's.
FRAME_KEYS = ("frame_id", "frame_index")


def frame_number(image: Record, place: str) -> int:
    """Return the number of an image in its video."""
    key = next((key for key in FRAME_KEYS if key in image), FRAME_KEYS[0])
    return integer(image, key, place, 0)


class ListedVideos:
    """The videos of a file and which images are their frames.

    Args:
        content: images and annotations.

    Attributes:
        records: `videos` by id.
        names: a name for each, `name` or the id itself.
        frames: for each video the ids and frame numbers of its images, in the order of the file.

    Raises:
        ValueError: an unknown video, a name twice, or frames that do not ascend.
    """

    def __init__(self, content: ImageAnnotations) -> None:
        file = content.file
        self._content = content
        self.records = file.by_id("videos")
        self.names = {identity: self._name(r, identity) for identity, r in self.records.items()}
        if len(set(self.names.values())) < len(self.names):
            raise ValueError(f"{file.path}: two videos have the same name")
        self.frames: dict[int, list[tuple[int, int]]] = {}
        for image_id, image in content.images.items():
            if image.get("video_id") is None:
                continue
            place = file.place("images", image_id)
            frames = self.frames.setdefault(
                reference(image, "video_id", self.records, "videos", place), []
            )
            number = frame_number(image, place)
            if frames and number <= frames[-1][1]:
                raise ValueError(
                    f"{place}: frame {number} comes after frame {frames[-1][1]} (image "
                    f"{frames[-1][0]}) of the same video; list the frames of a video in "
                    "ascending order, each once"
                )
            frames.append((image_id, number))

    def sizes(self) -> dict[int, tuple[int, int]]:
        """Width and height of each image in pixels, from the image or its video.

        Raises:
            ValueError: neither has them.
        """
        return {
            image_id: frame_size(
                image,
                self.records.get(image.get("video_id", -1), {}),
                self._content.file.place("images", image_id),
            )
            for image_id, image in self._content.items()
        }

    @staticmethod
    def _name(record: Record, identity: int) -> str:
        name = record.get("name")
        return name if isinstance(name, str) and name else str(identity)


def load_coco_vid(
    name: str,
    json_file: Path,
    image_root: Path,
    classes: Sequence[str] | None = None,
    annotated_only: bool = False,
    unlisted_frames: UnlistedFrames = "gaps",
) -> LoadedDataset:
    """Read a COCO-VID file; see `register_coco_vid`. Images are not opened."""
    content = ImageAnnotations(name, json_file, classes)
    file = content.file
    listed = ListedVideos(content)
    names = content.file_names()
    videos: dict[str, Sequence[str]] = {}
    positions: dict[int, FramePosition] = {}
    for video, frames in listed.frames.items():
        place = file.place("videos", video)
        of_video = [names[image_id] for image_id, _ in frames]
        whole = complete_video(image_root, of_video, unlisted_frames, place)
        index = {file_name: frame for frame, file_name in enumerate(whole)}
        if len(index) < len(whole):
            raise ValueError(f"{place}: two of its frames have the same file_name")
        video_id = listed.names[video]
        videos[video_id] = [f"{image_root}/{file_name}" for file_name in whole]
        for image_id, number in frames:
            positions[image_id] = FramePosition(video_id, index[names[image_id]], number)
    return content.loaded(
        files={image_id: f"{image_root}/{file_name}" for image_id, file_name in names.items()},
        sizes=listed.sizes(),
        positions=positions,
        videos=videos,
        annotated_only=annotated_only,
    )


def register_coco_vid(
    name: str,
    json_file: str | Path,
    image_root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    annotated_only: bool = False,
    unlisted_frames: UnlistedFrames = "gaps",
) -> None:
    """Register a COCO-VID file; nothing is read before the dataset is used.

    The video id is the video's `name`, or its id where it has none; `image_id` is the image's id.
    An image without `video_id` is a still. `frame_id` (or `frame_index`) may count from any number
    and leave gaps; it gives the order. The id of a track is `instance_id` or `track_id`;
    without it the evaluator has no motion categories. `segmentation` and `keypoints` are kept.

    Args:
        name: the dataset's name in configs.
        json_file: the annotation file.
        image_root: folder that the `file_name` of the images are below.
        classes: names of categories to use, in the order of `category_id`; annotations of the
            others are left out. All, in the order of their ids, if left out.
        annotated_only: list only images with an annotation; the others stay reference frames. For
            files that list all frames and label some.
        unlisted_frames: image files that the JSON does not list, but whose names differ from
            those of a video only in the number: "gaps" makes those between the listed frames
            reference frames, "all" all of them, "none" none.

    Raises:
        ValueError: the name is taken, a class is given twice, or `unlisted_frames` is unknown.
    """
    check_unlisted(unlisted_frames)
    register_from_file(
        name,
        load_coco_vid,
        json_file,
        image_root,
        classes,
        annotated_only=annotated_only,
        unlisted_frames=unlisted_frames,
    )
