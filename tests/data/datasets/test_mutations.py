"""Damaged label files: each reader ends in ValueError or OSError that names a file, or reads on."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from format_writers import WRITERS, Split, generate_split

from iff_detectron2.data import register_from_specs

pytestmark = [pytest.mark.usefixtures("clean_catalogs"), pytest.mark.slow]

NUM_INPUTS = pytest.mark.parametrize(
    "num_inputs", [200, pytest.param(3000, marks=pytest.mark.endurance)], ids=["few", "many"]
)
FRAMES = 4

# What tends to be used before it is checked.
TOKENS = (
    *(b"-1", b"0", b"1e999", b"-1e999", b"nan", b"NaN", b"Infinity", b"0.5"),
    *(b"9" * 25, b"9" * 5000, b"[" * 3000, b"null", b"true", b"[]", b"{}", b'""', b'"x"', b"[[]]"),
    *(
        b"\xff",
        b"\x00",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xa8",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\",
        b"\n",
    ),
    *(b"..", b"../", b"/etc/passwd", b"@", b",", b",,", b" ", b"\t", b":", b'"', b"'"),
    *(b"<", b"</", b"&", b"&x;", b"<!DOCTYPE a>", b"<![CDATA["),
)
VALUES = (None, True, -1, 0, 0.5, 2**70, 1e308, "", "x", "\ud800", [], [[]], {}, [None])

# Format -> the files that are damaged in turn, as found below its folder.
LABELS = {
    "burst": ("burst.json",),
    "coco_frames": ("coco.json",),
    "coco_vid": ("coco_vid.json",),
    "cvat_mot": ("task_0/gt/gt.txt", "task_0/gt/labels.txt"),
    "cvat_video": ("xml/0.xml",),
    "kitti_tracking": ("label_02/0000.txt",),
    "label_studio": ("export.json",),
    "mot_challenge": ("000/gt/gt.txt", "000/seqinfo.ini"),
    "ua_detrac": ("xml/MVI_0.xml",),
    "via_csv": ("via.csv",),
    "video_files": ("videos.json",),
    "visdrone": ("annotations/uav0000000.txt",),
    "yolo": ("labels/train/clip0_0000.txt", "data.yaml"),
    "youtube_vis": ("youtube_vis.json",),
}


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    """One video, of which a few frames are labelled."""
    whole = generate_split(tmp_path_factory.mktemp("generated"))
    name = next(iter(whole.videos))
    dicts = [d for d in whole.dicts if d["video_id"] == name][:FRAMES]
    return replace(whole, dicts=dicts, videos={name: whole.videos[name]})


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Change a file in one to three places."""
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(data) + 1)
        stop = min(len(data), start + chance.choice((0, 1, 1, 2, 5, 20)))
        kind = chance.randrange(5)
        if kind == 0:
            data = data[:start] + chance.choice(TOKENS) + data[stop:]
        elif kind == 1:
            data = (
                data[:start]
                + bytes(chance.randrange(256) for _ in range(stop - start))
                + data[stop:]
            )
        elif kind == 2:
            data = data[:start] + data[stop:] if chance.random() < 0.9 else data[:start]
        elif kind == 3:
            data = data[:stop] + data[start:]
        else:
            data = _other_number(data, start, chance)
    return data


def _other_number(data: bytes, start: int, chance: random.Random) -> bytes:
    """Put a token in the place of the next number or word."""
    match = re.compile(rb"[\w.+-]+").search(data, start)
    if match is None:
        return data
    return data[: match.start()] + chance.choice(TOKENS) + data[match.end() :]


def with_other_values(data: bytes, chance: random.Random) -> bytes:
    """Put values of other types into a JSON file, which bytes seldom hit."""
    content = json.loads(data)
    for _ in range(chance.randint(1, 2)):
        holder, key = content, None
        while isinstance(holder, dict | list) and holder:
            inside = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = chance.choice(inside)
            below = holder[key]
            if not isinstance(below, dict | list) or not below or chance.random() < 0.2:
                holder[key] = copy.deepcopy(chance.choice(VALUES))
                break
            holder = below
    return json.dumps(content).encode()


def inputs(path: Path, count: int) -> Iterator[bytes]:
    data, chance = path.read_bytes(), random.Random(path.name)
    for number in range(count):
        if path.suffix == ".json" and number % 2:
            yield with_other_values(data, chance)
        else:
            yield damaged(data, chance)


def outcome(spec: str) -> Exception | None:
    """Read a dataset and forget it; return the error that it ended with."""
    try:
        register_from_specs([f"set={spec}"])
        DatasetCatalog.get("set")
    except Exception as error:
        return error
    finally:
        for catalog in (DatasetCatalog, MetadataCatalog):
            if "set" in catalog:
                catalog.remove("set")
    return None


def check_reader(path: Path, spec: str, roots: Sequence[Path], count: int) -> None:
    """Read a file damaged in many ways, and put it back."""
    whole = path.read_bytes()
    for number, data in enumerate(inputs(path, count)):
        path.write_bytes(data)
        error = outcome(spec)
        if error is not None:
            shown = number, repr(error), data[:2000]
            assert isinstance(error, ValueError | OSError), shown
            assert any(str(root) in str(error) for root in roots), shown
    path.write_bytes(whole)
    assert outcome(spec) is None


def test_the_table_is_complete() -> None:
    assert set(LABELS) == set(WRITERS)


@NUM_INPUTS
@pytest.mark.parametrize("format_name", sorted(LABELS))
def test_every_reader(split: Split, tmp_path: Path, format_name: str, num_inputs: int) -> None:
    spec = WRITERS[format_name](split, tmp_path)
    files = LABELS[format_name]
    for file in files:  # a message names it, or the frame that it leads to
        roots = tmp_path, split.root
        check_reader(tmp_path / file, spec, roots, num_inputs // len(files))


@NUM_INPUTS
@pytest.mark.parametrize("kind", ["list", "xml"])
def test_the_layout_of_imagenet_vid(tiny_vid, kind: str, num_inputs: int) -> None:
    root: Path = tiny_vid(lengths=(3, 2), class_name="n02084071")
    path = root / "Annotations/VID/train/video_0/000001.xml"
    if kind == "list":
        path = root / "ImageSets/VID_val_videos.txt"
    check_reader(path, f"imagenet_vid:{root}@VID_val_videos", [root], num_inputs)
