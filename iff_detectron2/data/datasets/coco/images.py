"""Images and annotations of a COCO-style file, the part that several formats share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from iff_detectron2.data.catalog import DatasetDicts, LoadedDataset, register_video_dataset
from iff_detectron2.data.datasets.boxes import BoxCheck
from iff_detectron2.data.datasets.frame_folder import FramePosition
from iff_detectron2.data.datasets.json_file import AnnotationFile, Record, integer, reference, text
from iff_detectron2.data.datasets.relative_paths import check_relative
from iff_detectron2.data.video_index import VideoIndex

from .fields import Categories, instance


def frame_size(record: Record, video: Mapping[str, Any], place: str) -> tuple[int, int]:
    """Width and height in pixels of an image, or of its video where the image has none.

    Args:
        record: the image.
        video: its video; {} if it has none.
        place: of the record, for errors.
    """
    source = record if "width" in record or "height" in record else video
    return integer(source, "width", place, 1), integer(source, "height", place, 1)


class ImageAnnotations:
    """Images, annotations and categories of a COCO-style file.

    Args:
        name: the dataset, for warnings.
        path: the file.
        classes: see `Categories`.

    Attributes:
        file: the file.
        images: its `images` by id.
        categories: its classes.
        labelled: false where `annotations` is missing or null, as in sets to be predicted on;
            the dataset dicts then have no `annotations`.

    Raises:
        FileNotFoundError, ValueError: a missing, cut or malformed file.
    """

    def __init__(self, name: str, path: Path, classes: Sequence[str] | None) -> None:
        self.name = name
        self.file = AnnotationFile(path)
        self.categories = Categories(self.file, classes)
        self.images = self.file.by_id("images")
        self._of_image: dict[int, list[tuple[int, Record]]] = {}
        self.labelled = self.file.has("annotations")
        annotations = self.file.by_id("annotations") if self.labelled else {}
        for identity, record in annotations.items():
            place = self.file.place("annotations", identity)
            image_id = reference(record, "image_id", self.images, "images", place)
            self._of_image.setdefault(image_id, []).append((identity, record))

    def items(self) -> Iterable[tuple[int, Record]]:
        """Ids and records of the images."""
        return self.images.items()

    def file_names(self) -> dict[int, str]:
        """File name of each image, below the root.

        Raises:
            ValueError: a name is missing or leaves the root.
        """
        return {
            image_id: check_relative(text(image, "file_name", place), place)
            for image_id, image in self.items()
            for place in [self.file.place("images", image_id)]
        }

    def loaded(
        self,
        *,
        files: Mapping[int, str],
        sizes: Mapping[int, tuple[int, int]],
        positions: Mapping[int, FramePosition],
        videos: Mapping[str, Sequence[str]],
        annotated_only: bool = False,
    ) -> LoadedDataset:
        """Return the dataset, its dicts in the order of the file.

        Args:
            files: path of each image, as in `videos`.
            sizes: width and height of each image.
            positions: place of each image in its video; the others are stills.
            videos: frames of each video.
            annotated_only: leave out images without any annotation.

        Raises:
            ValueError: an annotation is unusable, a track has two boxes in an image, or no image
                is left.
        """
        check = BoxCheck(self.name)
        dicts: DatasetDicts = []
        for image_id in self.images:
            records = self._of_image.get(image_id, [])
            if annotated_only and not records:
                continue
            width, height = sizes[image_id]
            video: dict[str, Any] = {}
            if image_id in positions:
                video_id, frame, number = positions[image_id]
                video = {
                    "video_id": video_id,
                    "frame_index": frame,
                    "frame_number": number,
                    "video_length": len(videos[video_id]),
                }
            dicts.append(
                {
                    "file_name": files[image_id],
                    "height": height,
                    "width": width,
                    "image_id": image_id,
                    **video,
                }
            )
            if self.labelled:
                dicts[-1]["annotations"] = self._instances(records, (width, height), check)
        if not dicts:
            what = "annotated image" if annotated_only else "image"
            raise ValueError(f"the dataset {self.name!r} is empty: {self.file.path} has no {what}")
        check.warn()
        return LoadedDataset(dicts, VideoIndex(videos), self.categories.metadata())

    def _instances(
        self, records: Sequence[tuple[int, Record]], size: tuple[int, int], check: BoxCheck
    ) -> list[dict[str, Any]]:
        annotations = []
        tracks = set()
        for identity, record in records:
            place = self.file.place("annotations", identity)
            annotation = instance(record, size, self.categories, check, place)
            if annotation is None:
                continue
            track = annotation.get("track_id")
            if track is not None and track in tracks:
                raise ValueError(
                    f"{place}: the track {track!r} has a second box in image {record['image_id']}"
                )
            tracks.add(track)
            annotations.append(annotation)
        return annotations


def register_from_file(
    name: str,
    load: Callable[..., LoadedDataset],
    json_file: str | Path,
    root: str | Path,
    classes: Sequence[str] | None,
    **options: Any,
) -> None:
    """Register a dataset whose annotation file names its classes.

    Args:
        name: the dataset's name in configs.
        load: gets the name, the file, the root, the classes and the options.
        json_file: the annotation file.
        root: folder that the file's images or videos are below.
        classes: names of the classes to use; all of the file if left out.
        **options: those of the reader.

    Raises:
        ValueError: the name is taken, or `classes` is empty or has a name twice.
    """
    if classes is not None and len(set(classes)) != len(classes):
        raise ValueError(f"a class of {name!r} is given twice: {tuple(classes)}")
    path, folder = Path(json_file).expanduser(), Path(root).expanduser()
    load_it = partial(load, name, path, folder, classes, **options)
    register_video_dataset(name, load_it, classes, described=True)
