from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.structures import BoxMode

from iff_detectron2.data import VIDDatasetMapper, register_mot_challenge
from iff_detectron2.predictions import write_tracks
from iff_detectron2.structures import Detections

pytestmark = pytest.mark.usefixtures("clean_catalogs")


def _get(folder, **kwargs):
    register_mot_challenge("seq", folder, **kwargs)
    return DatasetCatalog.get("seq"), MetadataCatalog.get("seq").frame_index()


def test_mot15_sequence(mot_sequence) -> None:
    folder = mot_sequence(length=3)
    dicts, index = _get(folder, classes=("person",))
    assert dicts[1] == {
        "file_name": f"{folder}/img1/000002.jpg",
        "height": 48,
        "width": 64,
        "image_id": 2,
        "video_id": "SEQ",
        "frame_index": 1,
        "frame_number": 2,
        "video_length": 3,
        "annotations": [
            {
                "bbox": [6.5, 6.0, 26.5, 36.0],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": 0,
                "iscrowd": 0,
                "track_id": 1,
            }
        ],
    }
    assert list(index["SEQ"]) == [f"{folder}/img1/{n:06d}.jpg" for n in (1, 2, 3)]
    assert MetadataCatalog.get("seq").thing_classes == ["person"]


def test_mot16_classes_and_confidence(mot_sequence) -> None:
    lines = [
        mot_sequence.line(1, 1, 1, "1,0.8"),
        mot_sequence.line(1, 2, 1, "3,1"),
        mot_sequence.line(1, 3, 0, "1,0.1"),
        mot_sequence.line(1, 4, 0, "7,1"),
        mot_sequence.line(2, 4, 0, "7,1"),
    ]
    folder = mot_sequence(length=3, lines=lines)
    dicts, _ = _get(folder, classes=("car", "pedestrian"))
    assert [
        [(a["track_id"], a["category_id"], a["iscrowd"]) for a in d["annotations"]] for d in dicts
    ] == [[(1, 1, 0), (2, 0, 0), (3, 1, 1)], []]  # frame 2 is annotated, with others only
    assert len(get_detection_dataset_dicts("seq")) == 1


def test_unannotated_frames_are_refs_only(mot_sequence) -> None:
    folder = mot_sequence(length=6, lines=[mot_sequence.line(2), mot_sequence.line(4)])
    dicts, index = _get(folder)
    assert [(d["frame_index"], d["video_length"]) for d in dicts] == [(1, 6), (3, 6)]
    assert len(index["SEQ"]) == 6


def test_all_frames_on_demand(mot_sequence) -> None:
    dicts, _ = _get(mot_sequence(length=4, lines=[mot_sequence.line(2)]), annotated_only=False)
    assert [len(d["annotations"]) for d in dicts] == [0, 1, 0, 0]


def test_a_range_is_a_video_of_its_own(mot_sequence) -> None:
    folder = mot_sequence(length=8)
    dicts, index = _get(folder, frames=(3, 5))
    assert [(d["frame_index"], d["video_length"]) for d in dicts] == [(0, 3), (1, 3), (2, 3)]
    assert [d["image_id"] for d in dicts] == [1, 2, 3]
    assert list(index["SEQ"]) == [f"{folder}/img1/{n:06d}.jpg" for n in (3, 4, 5)]
    assert [d["file_name"] for d in dicts] == list(index["SEQ"])
    assert dicts[0]["annotations"][0]["bbox"][0] == 7.5


def test_a_range_with_refs_from_outside(mot_sequence) -> None:
    dicts, index = _get(mot_sequence(length=8), frames=(3, 5), confine_refs=False)
    assert [(d["frame_index"], d["video_length"]) for d in dicts] == [(2, 8), (3, 8), (4, 8)]
    assert [d["file_name"] for d in dicts] == list(index["SEQ"])[2:5]


def test_boxes_are_clipped_and_empty_ones_dropped(mot_sequence) -> None:
    lines = ["1,1,-10,-5,30,20,1,-1,-1,-1", "1,2,5,5,0,20,1,-1,-1,-1", "1,3,90,5,9,9,1,-1,-1,-1"]
    dicts, _ = _get(mot_sequence(lines=lines))
    assert [a["bbox"] for a in dicts[0]["annotations"]] == [[0, 0, 20, 15]]


def test_several_sequences_and_eight_digits(mot_sequence) -> None:
    first = mot_sequence(length=2, name="B")
    mot_sequence(length=3, name="A", digits=8, extension=".png")
    dicts, index = _get(first.parent)  # the folder of both
    assert [d["video_id"] for d in dicts] == ["A", "A", "A", "B", "B"]
    assert [d["image_id"] for d in dicts] == [1, 2, 3, 4, 5]
    assert all(Path(frame).is_file() for frames in index.values() for frame in frames)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2,1,4,6,20", r"gt\.txt:2: expected 9 \(MOT16\) or 10 \(MOT15\) columns, got 5"),
        ("2,1,4,x,20,30,1,-1,-1,-1", r"gt\.txt:2: every column must be a number"),
        ("2,1,4,nan,20,30,1,-1,-1,-1", r"gt\.txt:2: every column must be finite"),
        ("2.5,1,4,6,20,30,1,-1,-1,-1", r"gt\.txt:2: frame, id and class must be integers"),
        ("0,1,4,6,20,30,1,-1,-1,-1", r"gt\.txt:2: frame 0 is outside the sequence, 1 to 5"),
        ("6,1,4,6,20,30,1,-1,-1,-1", r"gt\.txt:2: frame 6 is outside the sequence, 1 to 5"),
        ("2,1,4,6,20,30,1,77,1", r"gt\.txt:2: unknown class 77"),
    ],
)
def test_malformed_lines_name_file_and_line(mot_sequence, line: str, message: str) -> None:
    folder = mot_sequence(lines=[mot_sequence.line(1), line])
    with pytest.raises(ValueError, match=message):
        _get(folder)


def test_lines_without_class_need_one_class(mot_sequence) -> None:
    with pytest.raises(ValueError, match=r"gt\.txt:1: the line has no class"):
        _get(mot_sequence(), classes=("pedestrian", "car"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("imWidth=64\n", "", r"seqinfo\.ini lacks the key 'imWidth'"),
        ("imWidth=64", "imWidth=wide", r"seqinfo\.ini has imWidth = 'wide'"),
        ("seqLength=5", "seqLength=0", r"seqinfo\.ini has seqLength = '0'"),
        ("[Sequence]", "Sequence", r"seqinfo\.ini is not a valid ini file"),
        ("imDir=img1", "imDir=../img1", r"imDir = '\.\./img1', which leaves the sequence"),
    ],
)
def test_malformed_seqinfo(mot_sequence, old: str, new: str, message: str) -> None:
    folder = mot_sequence()
    ini = folder / "seqinfo.ini"
    ini.write_text(ini.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        _get(folder)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("seqinfo.ini", r"neither .* has a seqinfo\.ini"),
        ("gt/gt.txt", r"gt/gt\.txt does not exist"),
        ("img1/000001.jpg", "the first frame of .* is missing"),
    ],
)
def test_missing_files(mot_sequence, gone: str, message: str) -> None:
    folder = mot_sequence()
    (folder / gone).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        _get(folder)


def test_empty_dataset_and_range_beyond_the_end(mot_sequence) -> None:
    folder = mot_sequence(lines=[mot_sequence.line(1)])
    register_mot_challenge("none", folder, frames=(2, 5))
    with pytest.raises(
        ValueError, match=r"'none' is empty: no label of frames 2 to 5 in .*gt\.txt"
    ):
        DatasetCatalog.get("none")
    register_mot_challenge("beyond", folder, frames=(2, 6))
    with pytest.raises(ValueError, match=r"frames 2 to 6 of .* were asked for, it has 1 to 5"):
        DatasetCatalog.get("beyond")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sequences": []}, "needs at least one sequence"),
        ({"classes": ()}, "needs at least one class"),
        ({"classes": ("car", "car")}, "given twice"),
        ({"classes": ("car", "cat")}, r"unknown MOTChallenge classes \['cat'\]"),
        ({"frames": (4, 2)}, r"got \(4, 2\)"),
    ],
)
def test_bad_arguments(tmp_path: Path, kwargs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_mot_challenge(**{"name": "seq", "sequences": tmp_path, **kwargs})


@pytest.fixture
def real_sequence(shared_dir: Path, mot_sequence) -> Path:
    """Return the real annotations of PETS09-S2L1 beside made-up frames."""
    folder = mot_sequence(length=795, name="PETS09-S2L1", num_images=1)
    ini = folder / "seqinfo.ini"
    ini.write_text(ini.read_text().replace("=64", "=768").replace("=48", "=576"))
    shutil.copy(shared_dir / "data/pets09_s2l1/gt.txt", folder / "gt/gt.txt")
    return folder


@pytest.mark.parametrize("span", [(1, 400), (401, 500)])
def test_real_annotations(real_sequence: Path, span: tuple[int, int]) -> None:
    """Against a reading of gt.txt with nothing but csv."""
    dicts, index = _get(real_sequence, frames=span)
    with open(real_sequence / "gt/gt.txt") as lines:
        rows = [row for row in csv.reader(lines) if span[0] <= int(row[0]) <= span[1]]
    assert len(dicts) == len(index["PETS09-S2L1"]) == span[1] - span[0] + 1
    read = {
        (d["frame_index"] + span[0], a["track_id"]): (a["iscrowd"], a["bbox"])
        for d in dicts
        for a in d["annotations"]
    }
    assert len(read) == len(rows)
    for row in rows:
        iscrowd, (x1, y1, x2, y2) = read[int(row[0]), int(row[1])]
        left, top, width, height = map(float, row[2:6])
        assert iscrowd == (float(row[6]) == 0)
        assert (x1, y1) == (max(left, 0), max(top, 0))
        assert (x2, y2) == (min(left + width, 768), min(top + height, 576))
    assert dicts[-1]["file_name"].endswith(f"{span[1]:06d}.jpg")


def test_all_of_the_real_annotations(real_sequence: Path) -> None:
    dicts, index = _get(real_sequence)
    assert [d["frame_index"] for d in dicts] == list(range(500))
    assert {d["video_length"] for d in dicts} == {795}
    assert len(index["PETS09-S2L1"]) == 795


def test_real_frames_are_where_the_index_says() -> None:
    folder = Path(os.getenv("DETECTRON2_DATASETS", "datasets")) / "pets09_s2l1"
    if not folder.is_dir():
        pytest.skip("the prepared PETS09-S2L1 is not under DETECTRON2_DATASETS/pets09_s2l1")
    dicts, index = _get(folder, frames=(401, 500))
    assert all(Path(frame).is_file() for frame in index["PETS09-S2L1"])
    mapper = VIDDatasetMapper(
        is_train=True, augmentations=[], image_format="BGR", frame_index=index
    )
    sample = mapper(dicts[0])
    assert [ref.shape for ref in sample["ref_images"]] == [(3, 576, 768)] * 2
    assert all(1 <= offset <= 10 for offset in sample["ref_offsets"])


def test_a_part_is_exported_with_the_numbers_of_the_whole(mot_sequence, tmp_path) -> None:
    """D7: tracks of frames 3 to 5 are scored against the whole ground truth as they are."""
    folder = mot_sequence(length=6)
    dicts, _ = _get(folder, frames=(3, 5))
    rows = [(row, box) for row, record in enumerate(dicts) for box in record["annotations"]]
    found = Detections(
        frames=[row for row, _ in rows],
        boxes=[box["bbox"] for _, box in rows],
        scores=[1.0] * len(rows),
        classes=[0] * len(rows),
        track_ids=[box["track_id"] for _, box in rows],
    )
    write_tracks(tmp_path / "SEQ.txt", found, dicts)
    truth = (Path(folder) / "gt" / "gt.txt").read_text().splitlines()
    of_truth = {tuple(map(float, line.split(",")[:6])) for line in truth}
    exported = (tmp_path / "SEQ.txt").read_text().splitlines()
    of_export = {tuple(map(float, line.split(",")[:6])) for line in exported}
    assert {row[0] for row in of_export} == {3, 4, 5}
    assert of_export == {row for row in of_truth if 3 <= row[0] <= 5}
