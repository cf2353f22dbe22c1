"""The doctor on hand-made trees, each with one thing wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from format_writers import WRITERS, generate_split

from iff_detectron2.data import register_from_specs, register_imagenet_vid
from iff_detectron2.data.catalog import register_video_dataset
from iff_detectron2.data.datasets import IMAGENET_VID_CLASSES
from iff_detectron2.data.datasets.imagenet.known_figures import IMAGENET_FIGURES
from iff_detectron2.doctor import Report, examine, format_report
from iff_detectron2.doctor.figures import check_figures

pytestmark = pytest.mark.usefixtures("clean_catalogs")

DOG = {"n02084071": "dog"}
FRAME = "VID/train/video_0/{:06d}"


def problems(report: Report) -> dict[str, list[str]]:
    """Texts of the problems of each check."""
    found: dict[str, list[str]] = {}
    for item in report.findings:
        if item.level == "problem":
            found.setdefault(item.check, []).append(item.text)
    return found


@pytest.fixture
def tree(tiny_vid):
    """Return a tree in order: two videos and its dataset."""

    def make(image_set: str = "VID_val_videos", **options) -> Path:
        root = tiny_vid(**{"lengths": (5, 3), **options})
        register_imagenet_vid("tiny", root, image_set, classes=DOG)
        return root

    return make


def test_a_tree_in_order_is_clean(tree) -> None:
    tree()
    report = examine("tiny")
    assert report.findings == []
    assert report.exit_code() == report.exit_code(strict=True) == 0
    assert report.summary == {
        "images": 8,
        "without_boxes": 0,
        "videos": 2,
        "frames_of_videos": 8,
        "boxes": 8,
        "boxes_of_class": {"dog": 8},
        "sizes": {"64x48": 8},
        "tracks": 2,
        # 2 pixels a frame of a box of 21x25 (inclusive): 19/23 and less
        "motion_percent": {"slow": 0.0, "medium": 75.0, "fast": 25.0},
    }
    assert "No problem found." in format_report(report)


def test_motion_shares_by_hand() -> None:
    """Boxes of 21 columns moved by 2k columns overlap in (21 - 2k) / (21 + 2k)."""

    def overlap(k: int) -> float:
        return (21 - 2 * k) / (21 + 2 * k)

    means = {5: [], 3: []}
    for length, values in means.items():
        for t in range(length):
            others = [overlap(abs(t - s)) for s in range(length) if s != t]
            values.append(sum(others) / len(others))
    every = means[5] + means[3]
    assert sum(0.7 <= m < 0.9 for m in every) / 8 == 0.75
    assert sum(m < 0.7 for m in every) / 8 == 0.25


def test_missing_jpeg(tree) -> None:
    root = tree(image_set="VID_train_15frames", every=2)
    (root / "Data" / f"{FRAME.format(1)}.JPEG").unlink()  # only a neighbour
    (root / "Data" / f"{FRAME.format(2)}.JPEG").unlink()
    report = examine("tiny")
    (found,) = report.findings
    assert (found.check, found.count) == ("files", 2)
    assert [Path(place).name for place in found.examples] == ["000001.JPEG", "000002.JPEG"]
    assert report.exit_code() == 1


@pytest.mark.parametrize("decode", [False, True])
def test_truncated_jpeg(tree, decode: bool) -> None:
    root = tree()
    path = root / "Data" / f"{FRAME.format(2)}.JPEG"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    report = examine("tiny", decode=decode)
    (found,) = report.findings
    assert found.text == "files that cannot be read"
    assert "000002.JPEG" in found.examples[0]
    assert "truncated" in found.examples[0]


def test_damage_inside_of_a_ref_needs_decoding(tree) -> None:
    root = tree(image_set="VID_train_15frames", every=2)
    (root / "Data" / f"{FRAME.format(1)}.JPEG").write_bytes(b"no image")
    assert examine("tiny").exit_code() == 0
    report = examine("tiny", decode=True)
    assert "000001.JPEG" in report.findings[0].examples[0]


def test_trailing_bytes_are_no_damage(tree) -> None:
    root = tree()
    path = root / "Data" / f"{FRAME.format(2)}.JPEG"
    path.write_bytes(path.read_bytes() + bytes(200))
    assert examine("tiny").findings == []


def test_malformed_and_missing_xmls_are_all_named(tree) -> None:
    root = tree()
    (root / "Annotations" / f"{FRAME.format(1)}.xml").write_text("<annotation>")
    (root / "Annotations" / f"{FRAME.format(3)}.xml").unlink()
    report = examine("tiny")
    assert report.exit_code() == 2
    assert "000001.xml" in report.unreadable
    (found,) = report.findings
    assert found.count == 2
    assert "000001.xml is not well-formed" in found.examples[0]
    assert "000003.xml does not exist" in found.examples[1]
    text = format_report(report)
    assert "cannot be read: the annotation" in text
    assert "No problem" not in text


def test_files_that_count_from_1(tree) -> None:
    root = tree()
    folder = root / "Data/VID/train/video_0"
    for number in reversed(range(5)):
        (folder / f"{number:06d}.JPEG").rename(folder / f"{number + 1:06d}.JPEG")
    report = examine("tiny")
    assert problems(report) == {
        "files": ["missing image or video files"],
        "frame numbers": ["videos whose files count from 1; ours count from 0"],
    }
    assert report.findings[1].examples == ("train/video_0",)


@pytest.mark.parametrize(
    ("length", "shift", "text"),
    [(30, -1, "one frame earlier than the rule"), (45, 1, "one frame later"), (30, 0, None)],
)
def test_lists_that_are_one_frame_off(tiny_vid, length: int, shift: int, text) -> None:
    root = tiny_vid(lengths=(30,))
    path = root / "ImageSets/VID_train_15frames.txt"
    frames = [(2 * i + 1) * length // 30 + shift for i in range(15)]
    if length > 30:
        for t in range(30, length):
            tiny_vid.write_frame(FRAME.format(t), tiny_vid.pixels(0, 0), [])
    path.write_text("\n".join(f"train/video_0 1 {t} {length}" for t in frames))
    register_imagenet_vid("tiny", root, path.stem, classes=DOG)
    found = problems(examine("tiny")).get("frame numbers", [])
    assert len(found) == (text is not None)
    assert text is None or text in found[0]


@pytest.mark.parametrize("entry", ["/etc/passwd 1 0 9", "../video 1 0 9", "a/../../b 1 0 9"])
def test_paths_that_leave_the_root(tree, entry: str) -> None:
    root = tree()
    (root / "ImageSets/VID_val_videos.txt").write_text(entry)
    report = examine("tiny")
    assert report.exit_code() == 2
    assert "must be a relative path without '..'" in report.unreadable


def test_no_list(tree) -> None:
    root = tree()
    (root / "ImageSets/VID_val_videos.txt").unlink()
    report = examine("tiny")
    assert report.exit_code() == 2
    assert "does not exist" in report.unreadable
    assert report.findings == []


def test_sizes_and_boxes_that_do_not_fit(tree, tiny_vid) -> None:
    root = tree()
    tiny_vid.write_image(
        root / "Data" / f"{FRAME.format(0)}.JPEG", tiny_vid.pixels(0, 0, size=(32, 32))
    )
    folder = root / "Annotations/VID/train/video_0"
    tiny_vid.write_xml(folder / "000001.xml", (60, 48), [("n02084071", 0, (6, 6, 26, 30))])
    tiny_vid.write_xml(folder / "000002.xml", (64, 48), [("n02084071", 0, (8, 6, 70, 30))])
    report = examine("tiny")
    found = problems(report)
    assert set(found) == {"reader", "sizes"}
    assert "1 boxes reached out of their image" in found["reader"][0]
    sizes = [f for f in report.findings if f.check == "sizes"]
    assert sizes[0].count == 2
    assert "000000.JPEG is 32x32, annotated as 64x48" in sizes[0].examples[0]
    assert "000001.JPEG is 64x48, annotated as 60x48" in sizes[0].examples[1]
    assert sizes[1].examples == ("train/video_0",)


def test_unknown_class(tree, tiny_vid) -> None:
    root = tree()
    path = root / "Annotations" / f"{FRAME.format(1)}.xml"
    tiny_vid.write_xml(path, (64, 48), [("n02121808", 0, (6, 6, 26, 30))])
    report = examine("tiny")
    assert report.exit_code() == 2
    assert "'n02121808', which is none of the 1 classes" in report.unreadable


def test_tracks_with_gaps_are_a_note(tree) -> None:
    tree(lengths=(9,), empty={(0, 3), (0, 4)})
    report = examine("tiny")
    (found,) = report.findings
    assert (found.level, found.check, found.count) == ("note", "tracks", 1)
    assert found.text == "tracks with gaps (at most 2 listed frames)"
    assert found.examples == ("track 0 of train/video_0: 2 frames, first 3",)
    assert report.exit_code() == 0
    assert report.exit_code(strict=True) == 1


def test_a_track_with_two_boxes_in_a_frame(tree, tiny_vid) -> None:
    root = tree()
    objects = [("n02084071", 0, (6, 6, 26, 30)), ("n02084071", 0, (30, 6, 46, 30))]
    tiny_vid.write_xml(root / "Annotations" / f"{FRAME.format(1)}.xml", (64, 48), objects)
    report = examine("tiny")
    assert problems(report) == {"tracks": ["tracks with two boxes in a frame"]}
    assert report.findings[0].examples == ("track 0 of train/video_0, frame 1",)
    assert "motion_percent" not in report.summary


def test_repeated_stills_are_a_note(tree) -> None:
    root = tree(image_set="DET_train_30classes", stills=2)
    path = root / "ImageSets/DET_train_30classes.txt"
    path.write_text(path.read_text() + "\ntrain/still_0 1")
    report = examine("tiny")
    (found,) = report.findings
    assert (found.level, found.count) == ("note", 1)
    assert report.summary["images"] == 3


class Dicts:
    """Registers dataset dicts as they are, as a reader with errors would return them."""

    def __init__(self, folder: Path, write_image: Callable) -> None:
        self.frames = [f"{folder}/{t}.jpg" for t in range(3)]
        for t, frame in enumerate(self.frames):
            write_image(Path(frame), t)

    def record(self, t: int, **changes) -> dict:
        record = {
            "file_name": self.frames[t],
            "image_id": t,
            "video_id": "v",
            "frame_index": t,
            "video_length": 3,
            "width": 64,
            "height": 48,
            "annotations": [self.annotation()],
        }
        return {**record, **changes}

    @staticmethod
    def annotation(**changes) -> dict:
        box = {"bbox": [1, 2, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "track_id": 1}
        return {**box, **changes}

    def examine(self, records: list[dict], classes=("a",), videos=None) -> Report:
        index = {"v": self.frames} if videos is None else videos
        register_video_dataset("dicts", lambda: (records, index), list(classes))
        return examine("dicts")


@pytest.fixture
def dicts(tmp_path, tiny_vid) -> Dicts:
    return Dicts(tmp_path, lambda path, t: tiny_vid.write_image(path, tiny_vid.pixels(0, t)))


def test_dicts_in_order_are_clean(dicts) -> None:
    assert dicts.examine([dicts.record(t) for t in range(3)]).findings == []


@pytest.mark.parametrize(
    ("changes", "check", "text"),
    [
        ({1: {"image_id": 0}}, "ids", "image ids that occur twice"),
        ({1: {"image_id": None}}, "ids", "images without image_id"),
        (
            {1: {"frame_index": 0, "file_name": 0}},
            "ids",
            "frames that are listed twice",
        ),
        (
            {0: {"frame_index": 1}, 1: {"frame_index": 2}, 2: {"frame_index": 3}},
            "frame numbers",
            "videos whose frame_index counts from 1 instead of 0",
        ),
        (
            {1: {"frame_index": 7}},
            "frame numbers",
            "records whose frame_index is not that of their file",
        ),
        ({2: {"video_length": 9}}, "frame numbers", "whose video_length is not that of the index"),
        ({1: {"video_id": "w"}}, "frame index", "videos without frames in the index"),
        ({1: {"width": 48, "height": 48}}, "sizes", "images of another size than annotated"),
    ],
)
def test_records_that_are_wrong(dicts, changes, check, text) -> None:
    records = [dicts.record(t, **changes.get(t, {})) for t in range(3)]
    for record in records:
        if isinstance(record["file_name"], int):
            record["file_name"] = dicts.frames[record["file_name"]]
    report = dicts.examine(records)
    assert any(text in said for said in problems(report)[check])
    assert report.exit_code() == 1


@pytest.mark.parametrize(
    ("annotation", "check", "text"),
    [
        ({"bbox": [60, 2, 70, 9]}, "boxes", "boxes that reach out of their image"),
        ({"bbox": [70, 2, 80, 9]}, "boxes", "boxes outside of their image"),
        ({"bbox": [9, 2, 1, 9]}, "boxes", "boxes with x2 < x1 or y2 < y1"),
        ({"bbox": [9, 2, float("nan"), 9]}, "boxes", "boxes that are not finite"),
        (
            {"bbox": [60, 2, 10, 9], "bbox_mode": BoxMode.XYWH_ABS},
            "boxes",
            "boxes that reach out of their image",
        ),
        ({"category_id": 1}, "classes", "categories outside of 0..0"),
        ({"category_id": "a"}, "classes", "categories outside of 0..0"),
        ({"track_id": None}, "tracks", "boxes without track id, though others have one"),
        ({"category_id": 1}, "tracks", "tracks that change their class"),
    ],
)
def test_annotations_that_are_wrong(dicts, annotation, check, text) -> None:
    records = [dicts.record(t) for t in range(3)]
    records[1]["annotations"] = [dicts.annotation(**annotation)]
    report = dicts.examine(records)
    assert any(text in said for said in problems(report)[check])


def test_incomplete_annotations(dicts) -> None:
    records = [dicts.record(t) for t in range(3)]
    del records[0]["annotations"][0]["bbox"]
    del records[1]["annotations"][0]["category_id"]
    report = dicts.examine(records)
    (found,) = [f for f in report.findings if f.level == "problem" and f.check == "boxes"]
    assert (found.text, found.count) == ("annotations without box or category", 2)


def test_categories_that_count_from_1(dicts) -> None:
    boxes = [dicts.annotation(category_id=c, track_id=c, bbox=[c, 2, 9, 9]) for c in (1, 2)]
    records = [dicts.record(t, annotations=boxes) for t in range(3)]
    report = dicts.examine(records, classes=("a", "b"))
    assert problems(report) == {"classes": ["categories outside of 0..1; are they counted from 1?"]}
    assert [f.examples for f in report.findings if f.level == "note"] == [("a",)]


def test_frames_out_of_order(dicts) -> None:
    report = dicts.examine([dicts.record(t) for t in (1, 0, 2)])
    assert problems(report) == {"order": ["videos whose frames are not in order"]}


def test_equal_boxes_and_no_tracks_are_notes(dicts) -> None:
    twice = [dicts.annotation(track_id=None), dicts.annotation(track_id=None)]
    report = dicts.examine([dicts.record(t, annotations=twice) for t in range(3)])
    assert problems(report) == {}
    assert {f.text for f in report.findings} == {
        "boxes that a frame has twice",
        "no box has a track id: no motion categories",
    }


def test_a_dataset_of_detectron2_s_own_kind(dicts) -> None:
    records = [dicts.record(t) for t in range(3)]
    for record in records:
        for key in ("video_id", "frame_index", "video_length"):
            del record[key]
    DatasetCatalog.register("stills", lambda: records)
    MetadataCatalog.get("stills").set(thing_classes=["a"])
    report = examine("stills")
    assert report.findings == []
    assert report.summary["videos"] == 0


def test_unknown_name() -> None:
    report = examine("no_such_dataset")
    assert report.exit_code() == 2
    assert "registered are" in report.unreadable


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return generate_split(tmp_path_factory.mktemp("generated"))


@pytest.mark.parametrize("kind", list(WRITERS))
def test_every_format(kind: str, split, tmp_path: Path) -> None:
    spec = WRITERS[kind](split, tmp_path)
    register_from_specs([f"set={spec}"])
    report = examine("set", decode=True)
    # Boxes of one class only are registered of MOTChallenge; sparse labels leave gaps.
    assert problems(report) == {}
    assert report.summary["images"] > 0
    json.dumps(report.to_json())


def imagenet_val() -> list[dict]:
    """Dataset dicts with the counts of ImageNet VID val, all boxes in the first frame."""
    known = IMAGENET_FIGURES["VID_val_videos"]
    names = list(IMAGENET_VID_CLASSES.values())
    records = [
        {
            "file_name": str(k),
            "video_id": f"val/ILSVRC2015_val_{min(k, known.videos - 1):08d}",
            "frame_index": k,
            "annotations": [],
        }
        for k in range(known.images)
    ]
    records[0]["annotations"] = [
        annotation
        for number, name in enumerate(names)
        for annotation in [{"category_id": number}] * known.boxes[name]
    ]
    return records


def test_known_figures() -> None:
    known = IMAGENET_FIGURES["VID_val_videos"]
    assert sum(known.boxes.values()) == 273505
    names = list(IMAGENET_VID_CLASSES.values())
    assert list(known.boxes) == names
    records = imagenet_val()
    motion = {"slow": 37.8, "medium": 36.0, "fast": 26.2}
    assert check_figures(records, "imagenet_vid_val", names, "VID_val_videos", motion) == []
    others = [{**record, "video_id": "val/mine"} for record in records[:9]]
    assert check_figures(others, "mine", names, "VID_val_videos", None) == []
    assert len(check_figures(others, "imagenet_vid_val", names, "VID_val_videos", None)) == 1
    assert (
        check_figures(records[:9], "imagenet_vid_val", ["dog"], "VID_val_videos", None) == []
    )  # another set
    motion["fast"] = 28.0
    first_dog = records[0]["annotations"].index({"category_id": names.index("dog")})
    del records[0]["annotations"][first_dog : first_dog + 3]
    (found,) = check_figures(records[:-1], "mine", names, "VID_val_videos", motion)
    assert found.count == 4
    assert found.examples == (
        "images: 176125, ImageNet VID has 176126",
        "different images: 176125, ImageNet VID has 176126",
        "boxes of dog: 20234, ImageNet VID has 20237",
    )


def test_figures_of_the_real_lists(shared_dir: Path) -> None:
    for name, known in IMAGENET_FIGURES.items():
        lines = (shared_dir / f"data/ImageSets/{name}.txt").read_text().splitlines()
        assert len(lines) == known.lines
    text = (shared_dir / "spec/vid_protocol.md").read_text()
    for name, count in IMAGENET_FIGURES["VID_val_videos"].boxes.items():
        assert f" {name} n" in text
        assert f" {count} ·" in text or f" {count}." in text
