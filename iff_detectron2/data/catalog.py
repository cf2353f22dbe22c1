"""How a video dataset enters Detectron2's catalogs: by name, read on first use, read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata

from iff_detectron2_cli.arguments import did_you_mean

from .bad_labels import bad_labels_left_out
from .video_index import VideoIndex

DatasetDicts = list[dict[str, Any]]


class LoadedDataset(NamedTuple):
    """What a reader returns: dataset dicts, files of all frames, metadata for the catalog."""

    dicts: DatasetDicts
    frame_index: VideoIndex
    metadata: dict[str, Any]


# Dataset dicts, frame index, and metadata where the files name the classes.
Load = Callable[[], tuple[DatasetDicts, VideoIndex] | tuple[DatasetDicts, VideoIndex, Mapping]]


def check_registered(name: str, where: str = "") -> None:
    """Look whether a dataset is registered.

    Args:
        name: of the dataset.
        where: beginning of the sentence.

    Raises:
        ValueError: if it is not.
    """
    if name not in DatasetCatalog:
        hint = did_you_mean(name, DatasetCatalog.list())
        raise ValueError(
            f"{where}there is no dataset {name!r}"
            + (hint or "; register one as NAME=FORMAT:PATH (docs/datasets.md)")
        )


def check_labelled(name: str) -> None:
    """Refuse a dataset without labels, which can only be predicted on.

    Args:
        name: a registered dataset.

    Raises:
        ValueError: none of its records has annotations, or what stands for them in segmentation.
    """
    keys = {"annotations", "sem_seg_file_name", "segments_info"}
    if not any(keys & record.keys() for record in DatasetCatalog.get(name)):
        raise ValueError(
            f"the dataset {name!r} has no labels (`annotations` missing or null): it can only be "
            "predicted on"
        )


class VideoDataset:
    """Dataset dicts, frame index and metadata of one dataset, from one reading of its files.

    Args:
        load: reads the files; returns the dataset dicts, the frame index, and maybe metadata.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._read: tuple[Any, ...] | None = None
        self._left_out: dict[str, str] | None = None

    @property
    def _content(self) -> tuple[Any, ...]:
        if self._read is None:
            with bad_labels_left_out(self._left_out):
                self._read = self._load()
        return self._read

    def leave_out_bad_labels(self) -> None:
        """Let the reading, if it is still to come, leave out images whose labels are damaged."""
        if self._left_out is None:
            self._left_out = {}

    def left_out(self) -> dict[str, str]:
        """Reason by file of each image that was left out."""
        return dict(self._left_out or {})

    def dicts(self) -> DatasetDicts:
        """Dataset dicts; the list and its dicts are the caller's own, annotations are shared."""
        return [sample.copy() for sample in self._content[0]]

    def frame_index(self) -> VideoIndex:
        """Files of all frames of all videos."""
        return self._content[1]

    def metadata(self) -> Mapping[str, Any]:
        """Return what the files say about the classes; empty where `load` returned nothing about
        them."""
        return self._content[2] if len(self._content) > 2 else {}


def leave_out_bad_labels(name: str) -> None:
    """Let a registered dataset be without the images whose labels cannot be read.

    It has an effect before the dataset is read, on readers that know the labels image by image.
    """
    allow = MetadataCatalog.get(name).get("leave_out_bad_labels")
    if allow is not None:
        allow()


def left_out_of(name: str) -> dict[str, str]:
    """Reason by file of each image that a registered dataset is without; see above."""
    left_out = MetadataCatalog.get(name).get("left_out")
    return {} if left_out is None else left_out()


class LateMetadata(Metadata):
    """Metadata of a dataset whose files name the classes: asking for them reads the files.

    Detectron2's readers set the class names when the dicts are read, so that whoever asks for the
    names before, to draw or to count them, gets none.
    """

    _LATE = (
        "thing_classes",
        "thing_dataset_id_to_contiguous_id",
        "keypoint_names",
        "keypoint_flip_map",
    )

    def __getattr__(self, key: str) -> Any:
        read = self.__dict__.get("read_classes")
        if key in self._LATE and read is not None:
            values = read()
            del self.__dict__["read_classes"]
            self.set(**values)
            if key in values:
                return values[key]
        return super().__getattr__(key)


def register_video_dataset(
    name: str, load: Load, thing_classes: Sequence[str] | None, *, described: bool = False
) -> None:
    """Register a dataset under `name` without touching the disk.

    Args:
        name: the name that configs use.
        load: reads the files when the dataset is first asked for.
        thing_classes: class names in the order of `category_id`; may be None if `described`.
        described: `load` returns metadata of the classes as a third value.

    Raises:
        ValueError: the name is empty or taken, or there is no class.
    """
    if not name:
        raise ValueError("a dataset needs a name that is not empty")
    if name in DatasetCatalog:
        raise ValueError(f"a dataset {name!r} is registered already; choose another name")
    if not thing_classes and not (described and thing_classes is None):
        raise ValueError(f"the dataset {name!r} needs at least one class")
    dataset = VideoDataset(load)
    # Metadata first: it refuses to be changed, and a refusal must not leave half a dataset behind.
    metadata = MetadataCatalog.get(name)
    if described:
        metadata = LateMetadata(**metadata.as_dict())
    if thing_classes is not None:
        metadata.set(thing_classes=list(thing_classes))
    metadata.set(
        evaluator_type="vid",
        frame_index=dataset.frame_index,
        leave_out_bad_labels=dataset.leave_out_bad_labels,
        left_out=dataset.left_out,
    )
    if described:
        metadata.read_classes = dataset.metadata
        MetadataCatalog[name] = metadata
    DatasetCatalog.register(name, dataset.dicts)


def category_ids_of(name: str) -> list[int]:
    """Return a registered dataset's own id of each class; counted from 0 where it has none."""
    metadata = MetadataCatalog.get(name)
    to_contiguous = metadata.get("thing_dataset_id_to_contiguous_id")
    if to_contiguous is None:
        return list(range(len(metadata.thing_classes)))
    return sorted(to_contiguous, key=to_contiguous.__getitem__)
