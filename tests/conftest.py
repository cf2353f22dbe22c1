"""Fixtures that several parts of the suite share."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder `shared` beside the repository: real lists and specifications."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("the folder 'shared' with the real ImageNet lists is not beside the repository")
    return path


@pytest.fixture(autouse=True)
def loggers_stay() -> Iterator[None]:
    """Take handlers away that a test has set up: they write to a stream that ends with it."""
    names = ("detectron2", "fvcore", "iff_detectron2")
    before = {n: (list((log := logging.getLogger(n)).handlers), log.propagate) for n in names}
    yield
    for name, (handlers, propagate) in before.items():
        log = logging.getLogger(name)
        log.handlers[:], log.propagate = handlers, propagate
    setup = sys.modules.get("detectron2.utils.logger")
    if setup is not None:
        setup.setup_logger.cache_clear()  # else it believes that they are still there


@pytest.fixture
def clean_catalogs() -> Iterator[None]:
    """Take out what the test registers in Detectron2's catalogs."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    before = set(DatasetCatalog.keys()), set(MetadataCatalog.keys())
    yield
    for catalog, names in zip((DatasetCatalog, MetadataCatalog), before, strict=True):
        for name in set(catalog.keys()) - names:
            catalog.remove(name)


@pytest.fixture
def fresh_builtins(clean_catalogs) -> Iterator[None]:
    """Let the test read the datasets that have names from the start, unread before and after."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from iff_detectron2.data.datasets.builtin import register_builtin_datasets

    known = ("imagenet_vid", "imagenet_det", "moving_shapes")
    names = [name for name in DatasetCatalog if name.startswith(known)]

    def register_anew() -> None:
        for name in names:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        register_builtin_datasets()

    register_anew()
    yield
    register_anew()


@pytest.fixture
def zoo_server(tmp_path_factory, monkeypatch) -> Any:
    """Stand in for the download of the zoo's weights: a `zoo_server.ZooServer`."""
    from detectron2.utils.file_io import PathManager
    from iopath.common import file_io
    from zoo_server import ZooServer

    server = ZooServer()
    monkeypatch.setattr(file_io, "download", server.download)
    handlers = PathManager._path_handlers.values()
    downloading = [h for h in handlers if isinstance(h, file_io.HTTPURLHandler)]
    assert downloading

    def forget() -> None:
        monkeypatch.setenv("FVCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        for handler in downloading:
            monkeypatch.setattr(handler, "cache_map", {})

    server.forget = forget
    forget()
    return server


class TinyVID:
    """Builder of small trees in the layout of ImageNet VID, one for each test.

    Args:
        folder: folder to build in.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "ILSVRC2015"

    def __call__(
        self,
        lengths: Sequence[int] = (5,),
        size: tuple[int, int] = (64, 48),
        every: int = 1,
        empty: Collection[tuple[int, int]] = (),
        stills: int = 0,
        class_name: str = "n02084071",
    ) -> Path:
        """Write videos `train/video_<v>` with one object a frame (`box`, track 0).

        Args:
            lengths: frames of each video.
            size: width and height in pixels.
            every: VID_train_15frames lists every such frame; VID_val_videos lists all videos.
            empty: frames without an object, as (video, frame).
            stills: number of DET images, listed in DET_train_30classes.
            class_name: `<name>` of every object.

        Returns:
            The root of the tree.
        """
        lists: dict[str, list[str]] = {"VID_train_15frames": [], "VID_val_videos": []}
        next_id = 1
        for video, length in enumerate(lengths):
            folder = f"train/video_{video}"
            lists["VID_val_videos"].append(f"{folder} {next_id} 0 {length}")
            next_id += length
            lists["VID_train_15frames"] += [
                f"{folder} 1 {t} {length}" for t in range(0, length, every)
            ]
            for t in range(length):
                objects = [] if (video, t) in empty else [(class_name, 0, self.box(video, t))]
                self.write_frame(f"VID/{folder}/{t:06d}", self.pixels(video, t, size), objects)
        for k in range(stills):
            lists.setdefault("DET_train_30classes", []).append(f"train/still_{k} 1")
            objects = [(class_name, None, (3, 4, 20, 30))]
            self.write_frame(f"DET/train/still_{k}", self.pixels(5, k, size), objects)
        (self.root / "ImageSets").mkdir(parents=True)
        for name, lines in lists.items():
            (self.root / "ImageSets" / f"{name}.txt").write_text("\n".join(lines))
        return self.root

    @staticmethod
    def box(video: int, frame: int) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 of the one object of a frame."""
        return 4 + 2 * frame, 6 + video, 24 + 2 * frame, 30 + video

    @staticmethod
    def pixels(video: int, frame: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
        """RGB frame: red tells the frame, green the column, blue the video."""
        width, height = size
        image = np.empty((height, width, 3), np.uint8)
        image[..., 0] = (20 + 8 * frame) % 256
        image[..., 1] = 2 * np.arange(width)
        image[..., 2] = 40 + 30 * video
        return image

    @staticmethod
    def write_image(path: Path, pixels: np.ndarray) -> None:
        """Write a JPEG with as little loss as the format allows."""
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, format="JPEG", quality=100, subsampling=0)

    @staticmethod
    def write_xml(
        path: Path,
        size: tuple[int, int],
        objects: Sequence[tuple[str, int | None, tuple[float, float, float, float]]],
    ) -> None:
        """Write an annotation; objects are (name, track id or None, (x1, y1, x2, y2))."""
        parts = [f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"]
        for name, track_id, (x1, y1, x2, y2) in objects:
            track = "" if track_id is None else f"<trackid>{track_id}</trackid>"
            parts.append(
                f"<object>{track}<name>{name}</name><bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin>"
                f"<ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox><occluded>0</occluded></object>"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation><folder>f</folder>{''.join(parts)}</annotation>")

    def write_frame(self, name: str, pixels: np.ndarray, objects: Sequence) -> None:
        """Write image and annotation of `{VID,DET}/...` without extension."""
        self.write_image(self.root / f"Data/{name}.JPEG", pixels)
        size = (pixels.shape[1], pixels.shape[0])
        self.write_xml(self.root / f"Annotations/{name}.xml", size, objects)


@pytest.fixture
def tiny_vid(tmp_path: Path) -> TinyVID:
    """Builder of a small tree in the layout of ImageNet VID; call it to write the files."""
    return TinyVID(tmp_path)


class TinyMOT:
    """Builder of small MOTChallenge sequences, one pedestrian a frame.

    Args:
        folder: folder to build in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        length: int = 5,
        lines: Sequence[str] | None = None,
        name: str = "SEQ",
        digits: int = 6,
        extension: str = ".jpg",
        num_images: int | None = None,
    ) -> Path:
        """Write a sequence of 64x48 frames and return its folder.

        Args:
            length: frames of the sequence.
            lines: lines of gt.txt; `line(frame)` for every frame if left out.
            name: name of the sequence.
            digits: digits of the frame numbers.
            extension: extension of the frames.
            num_images: number of frames that are written; all if left out.
        """
        folder = self.folder / name
        for frame in range(1, (length if num_images is None else num_images) + 1):
            path = folder / f"img1/{frame:0{digits}d}{extension}"
            TinyVID.write_image(path, TinyVID.pixels(0, frame))
        (folder / "seqinfo.ini").write_text(
            f"[Sequence]\nname={name}\nimDir=img1\nframeRate=7\nseqLength={length}\n"
            f"imWidth=64\nimHeight=48\nimExt={extension}\n"
        )
        (folder / "gt").mkdir()
        if lines is None:
            lines = [self.line(frame) for frame in range(1, length + 1)]
        (folder / "gt/gt.txt").write_text("\n".join(lines))
        return folder

    @staticmethod
    def line(frame: int, track_id: int = 1, conf: int = 1, tail: str = "-1,-1,-1") -> str:
        """One line of gt.txt; the tail tells MOT15 from MOT16."""
        return f"{frame},{track_id},{4 + frame}.5,6,20,30,{conf},{tail}"


@pytest.fixture
def mot_sequence(tmp_path: Path) -> TinyMOT:
    """Builder of a small MOTChallenge sequence; call it to write the files."""
    return TinyMOT(tmp_path / "mot")


@pytest.fixture
def register(clean_catalogs, request):
    """Register dataset dicts under a name of the test's own."""
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from vid_cases import CLASSES

    counter = itertools.count()

    def call(dicts, classes=CLASSES):
        name = f"{request.node.name}_{next(counter)}"
        DatasetCatalog.register(name, lambda: dicts)
        MetadataCatalog.get(name).set(thing_classes=list(classes), evaluator_type="vid")
        return name

    return call
