"""What is peculiar to MOTChallenge's kin; the round trips are in test_round_trips.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from iff_detectron2.data import (
    register_cvat_mot,
    register_kitti_tracking,
    register_mot_challenge,
    register_ua_detrac,
    register_visdrone,
)

pytestmark = pytest.mark.usefixtures("clean_catalogs")

# frame, id, left, top, width, height, score, category, truncation, occlusion
VISDRONE = [
    "1,3,4,6,20,24,1,4,0,0",
    "1,7,30,6,20,24,1,1,0,2",
    "2,3,6,6,20,24,0,4,1,1",
    "2,-1,0,0,64,20,0,0,0,0",
    "2,8,6,6,9,9,1,11,0,0",
]


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of blank frames of 64x48."""

    def make(folder: str, form: str, numbers: range) -> Path:
        path = tmp_path / folder
        path.mkdir(parents=True)
        for number in numbers:
            Image.fromarray(np.full((48, 64, 3), number, np.uint8)).save(path / form.format(number))
        return path

    return make


def read(register: Callable[..., None], *args: Any, **options: Any) -> list[dict]:
    register("set", *args, **options)
    return DatasetCatalog.get("set")


def shown(dicts: list[dict], dataset: str = "set") -> list:
    names = MetadataCatalog.get(dataset).thing_classes
    return [
        (
            d["frame_number"],
            [
                (names[a["category_id"]], a.get("track_id"), a["bbox"], a["iscrowd"])
                for a in d["annotations"]
            ],
        )
        for d in dicts
    ]


EXPECTED = [
    (1, [("car", 3, [4, 6, 24, 30], 0), ("pedestrian", 7, [30, 6, 50, 30], 0)]),
    (2, [("car", 3, [6, 6, 26, 30], 1)]),
]


def test_visdrone(images, tmp_path: Path, caplog) -> None:
    images("sequences/uav1_v", "{:07d}.jpg", range(1, 4))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/uav1_v.txt").write_text("\n".join(VISDRONE))
    with caplog.at_level("INFO", "iff_detectron2"):
        dicts = read(register_visdrone, tmp_path)
    assert shown(dicts) == EXPECTED
    assert (dicts[0]["width"], dicts[0]["height"], dicts[0]["video_length"]) == (64, 48, 3)
    assert "left out 1 regions to be ignored (first in " in caplog.text
    assert "left out 1 boxes of the category 'others'" in caplog.text


def test_visdrone_in_the_layout_of_motchallenge_is_told(mot_sequence) -> None:
    """Ten columns, but the last three are no coordinates: they were all pedestrians once."""
    folder = mot_sequence(length=3, lines=VISDRONE)
    with pytest.raises(ValueError, match=r"gt\.txt: its ten columns are VisDrone's .*visdrone:"):
        read(register_mot_challenge, folder)
    register_visdrone("kin", folder)
    assert shown(DatasetCatalog.get("kin"), "kin") == EXPECTED


def test_ten_columns_of_mot15_stay_mot15(mot_sequence) -> None:
    lines = ["1,1,4,6,20,24,1,-1,-1,-1", "2,1,4,6,20,24,1,3,1,-4.5", "3,1,4,6,20,24,1,0,0,0"]
    assert len(read(register_mot_challenge, mot_sequence(lines=lines))) == 3


def test_an_id_of_minus_one_is_no_track(mot_sequence) -> None:
    lines = ["1,-1,4,6,20,24,1,-1,-1,-1", "1,-1,30,6,20,24,1,-1,-1,-1", "2,5,4,6,20,24,1,-1,-1,-1"]
    dicts = read(register_mot_challenge, mot_sequence(lines=lines))
    assert [[a.get("track_id") for a in d["annotations"]] for d in dicts] == [[None, None], [5]]


def test_lines_of_other_classes_are_counted_by_class(mot_sequence, caplog) -> None:
    lines = [mot_sequence.line(1, k, 1, f"{c},1") for k, c in enumerate((1, 3, 3, 7))]
    with caplog.at_level("INFO", "iff_detectron2"):
        read(register_mot_challenge, mot_sequence(lines=lines))
    assert "left out 2 boxes of the class 'car', which is not used (first in " in caplog.text
    assert "gt.txt:2)" in caplog.text
    assert "left out 1 boxes of the class 'static_person'" in caplog.text


def test_a_range_keeps_the_numbers_of_the_source(mot_sequence) -> None:
    dicts = read(register_mot_challenge, mot_sequence(length=8), frames=(3, 5))
    assert [(d["frame_index"], d["frame_number"]) for d in dicts] == [(0, 3), (1, 4), (2, 5)]


def test_byte_order_marks(mot_sequence) -> None:
    folder = mot_sequence()
    for file in (folder / "seqinfo.ini", folder / "gt/gt.txt"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(read(register_mot_challenge, folder)) == 5


def test_files_that_are_no_text_are_named(mot_sequence) -> None:
    folder = mot_sequence()
    (folder / "gt/gt.txt").write_bytes(b"1,1,\xff")
    with pytest.raises(ValueError, match=r"gt\.txt is not text in UTF-8 \(byte 4\)"):
        read(register_mot_challenge, folder)


def test_a_length_of_many_digits_is_refused_at_once(mot_sequence) -> None:
    folder = mot_sequence()
    ini = folder / "seqinfo.ini"
    ini.write_text(ini.read_text().replace("seqLength=5", "seqLength=" + "9" * 5000))
    with pytest.raises(ValueError, match=r"seqinfo\.ini has seqLength = '9{40}'; expected a pos"):
        read(register_mot_challenge, folder)


def test_a_track_twice_in_a_frame_is_refused(mot_sequence) -> None:
    lines = [mot_sequence.line(1), mot_sequence.line(1)]
    with pytest.raises(ValueError, match=r"gt\.txt:2: the track 1 has a second box in frame 1"):
        read(register_mot_challenge, mot_sequence(lines=lines))


KITTI = [
    "0 -1 DontCare -1 -1 -10.0 1.0 2.0 9.0 9.0 -1000 -1000 -1000 -10 -1 -1 -1",
    "0 2 Pedestrian 0 1 -2.5 4.5 6.0 24.5 30.0 1.7 0.6 0.8 1.8 1.7 7.4 -2.1",
    "1 0 Car 0 0 -1.8 30.0 6.0 50.0 30.0 2.0 1.8 4.4 -4.5 1.8 13.4 -2.1",
]


def test_kitti_tracking(images, tmp_path: Path, caplog) -> None:
    images("image_02/0000", "{:06d}.png", range(3))
    labels = tmp_path / "0000.txt"
    labels.write_text("\n".join(KITTI))
    with caplog.at_level("INFO", "iff_detectron2"):
        dicts = read(register_kitti_tracking, tmp_path / "image_02", labels)
    assert shown(dicts) == [
        (0, [("Pedestrian", 2, [4.5, 6, 24.5, 30], 0)]),
        (1, [("Car", 0, [30, 6, 50, 30], 0)]),
    ]
    assert "left out 1 boxes of the type DontCare" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 1 Car 0 0", r"0000\.txt:1: expected 17 columns \(KITTI tracking\), got 5"),
        (KITTI[1].replace("Pedestrian", "Dog"), r"0000\.txt:1: unknown type 'Dog'; KITTI has Car"),
        (KITTI[1].replace("24.5", "nan"), r"0000\.txt:1: a corner must be finite"),
        (KITTI[1].replace("0 2 Ped", "3 2 Ped"), r"0000\.txt:1: frame 3 is outside of '0000'"),
        (KITTI[1].replace("0 2 Ped", "x 2 Ped"), r"0000\.txt:1: the frame must be a number"),
    ],
)
def test_malformed_kitti(images, tmp_path: Path, line: str, message: str) -> None:
    images("0000", "{:06d}.png", range(3))
    (tmp_path / "0000.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        read(register_kitti_tracking, tmp_path, tmp_path / "0000.txt")


DETRAC = """<?xml version="1.0"?><sequence name="MVI_1">
<ignored_region><box left="1" top="1" width="5" height="5"/></ignored_region>
<frame density="1" num="2"><target_list><target id="4">
<box left="4.5" top="6" width="20" height="24"/>
<attribute orientation="18" speed="6" trajectory_length="5" truncation_ratio="0.1"
 vehicle_type="van"/><occlusion/></target></target_list></frame></sequence>"""


def test_ua_detrac(images, tmp_path: Path, caplog) -> None:
    images("MVI_1", "img{:05d}.jpg", range(1, 4))
    (tmp_path / "MVI_1.xml").write_text(DETRAC)
    with caplog.at_level("INFO", "iff_detectron2"):
        dicts = read(register_ua_detrac, tmp_path, tmp_path)
    assert shown(dicts) == [(2, [("van", 4, [4.5, 6, 24.5, 30], 0)])]
    assert dicts[0]["file_name"] == f"{tmp_path}/MVI_1/img00002.jpg"
    assert "left out 1 regions to be ignored" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"van"', '"tram"', r"frame '2', target '4': unknown vehicle_type 'tram'"),
        ('left="4.5" ', "", r"MVI_1\.xml, frame '2', target '4': <box> lacks the attribute 'left'"),
        ('num="2"', 'num="two"', r"'num' of <frame> must be a number, got 'two'"),
        ("<sequence ", "<annotations ", r"MVI_1\.xml is not well-formed XML"),
        ('name="MVI_1"', 'name="../MVI_1"', "is no name of a folder"),
        (
            "<sequence ",
            '<!DOCTYPE s [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><sequence ',
            r"MVI_1\.xml is not well-formed XML: it has a DOCTYPE",
        ),
    ],
)
def test_malformed_detrac(images, tmp_path: Path, old: str, new: str, message: str) -> None:
    images("MVI_1", "img{:05d}.jpg", range(1, 4))
    (tmp_path / "MVI_1.xml").write_text(DETRAC.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read(register_ua_detrac, tmp_path, tmp_path)


@pytest.fixture
def cvat_export(images, tmp_path: Path) -> Path:
    """Return an export without seqinfo.ini, whose first image is frame_000000 and line 1."""
    images("task/img1", "frame_{:06d}.PNG", range(3))
    (tmp_path / "task/gt").mkdir()
    (tmp_path / "task/gt/labels.txt").write_text("dog\ncat\n")
    lines = ["1,1,4,6,20,24,1,2,1.0", "3,1,6,6,20,24,1,2,1.0", "3,-1,30,6,20,24,0,1,0.5"]
    (tmp_path / "task/gt/gt.txt").write_text("\n".join(lines))
    return tmp_path / "task"


def test_cvat_mot(cvat_export: Path) -> None:
    dicts = read(register_cvat_mot, cvat_export)
    assert MetadataCatalog.get("set").thing_classes == ["dog", "cat"]
    assert shown(dicts) == [
        (1, [("cat", 1, [4, 6, 24, 30], 0)]),
        (3, [("cat", 1, [6, 6, 26, 30], 0), ("dog", None, [30, 6, 50, 30], 1)]),
    ]
    assert dicts[0]["file_name"].endswith("img1/frame_000000.PNG")
    assert dicts[1]["file_name"].endswith("img1/frame_000002.PNG")


def test_cvat_mot_without_images(cvat_export: Path, tmp_path: Path) -> None:
    shutil.move(cvat_export / "img1", tmp_path / "film")
    with pytest.raises(FileNotFoundError, match="img1 is neither a video file nor a folder"):
        read(register_cvat_mot, cvat_export)
    register_cvat_mot("with", cvat_export, tmp_path / "film", frames=(3, 3))
    (record,) = DatasetCatalog.get("with")
    assert (record["frame_number"], record["frame_index"]) == (3, 0)
    assert record["file_name"] == f"{tmp_path}/film/frame_000002.PNG"


def test_classes_of_labels_txt_are_not_motchallenge_s(mot_sequence) -> None:
    folder = mot_sequence(lines=[mot_sequence.line(1, 1, 1, "1,1")])
    (folder / "gt/labels.txt").write_text("dog\n")
    with pytest.raises(ValueError, match=r"labels\.txt names classes of its own.*cvat_mot:PATH"):
        read(register_mot_challenge, folder)
    register_cvat_mot("cvat", folder)
    assert MetadataCatalog.get("cvat").thing_classes == ["dog"]


def test_unknown_classes_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'set' has no class 'cat'; it has pedestrian, people"):
        register_visdrone("set", tmp_path / "nowhere", classes=["car", "cat"])
