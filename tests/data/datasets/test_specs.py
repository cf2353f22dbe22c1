from __future__ import annotations

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2.data import SpecForm, add_spec_form, register_from_specs
from iff_detectron2.data.datasets import SPEC_FORMS
from iff_detectron2.data.moving_shapes.classes import MOVING_SHAPES_CLASSES

pytestmark = pytest.mark.usefixtures("clean_catalogs")


def test_layout_of_imagenet_vid(tiny_vid) -> None:
    root = tiny_vid(lengths=(2, 3))
    register_from_specs([f"a=imagenet_vid:{root}@VID_val_videos"])
    assert [d["image_id"] for d in DatasetCatalog.get("a")] == [1, 2, 3, 4, 5]
    assert len(MetadataCatalog.get("a").thing_classes) == 30


def test_moving_shapes_elsewhere(tiny_vid) -> None:
    root = tiny_vid(class_name=MOVING_SHAPES_CLASSES[0])
    register_from_specs([f"a=moving_shapes:{root}@VID_train_15frames"])
    assert DatasetCatalog.get("a")[0]["annotations"][0]["category_id"] == 0
    assert MetadataCatalog.get("a").thing_classes == list(MOVING_SHAPES_CLASSES)


def test_mot_challenge_with_a_range(mot_sequence) -> None:
    folder = mot_sequence(length=6)
    register_from_specs([f"a=mot_challenge:{folder}@2-4", f"b=mot_challenge:{folder}"])
    assert [d["file_name"][-10:] for d in DatasetCatalog.get("a")] == [
        "000002.jpg",
        "000003.jpg",
        "000004.jpg",
    ]
    assert len(DatasetCatalog.get("b")) == 6


def test_classes_in_a_spec(mot_sequence) -> None:
    lines = [mot_sequence.line(1, k, 1, f"{c},1") for k, c in enumerate((1, 3, 7))]
    folder = mot_sequence(lines=lines)
    register_from_specs([f"a=mot_challenge:{folder}@1-2@classes=car,static_person"])
    assert MetadataCatalog.get("a").thing_classes == ["car", "static_person"]
    (record,) = DatasetCatalog.get("a")
    assert [a["category_id"] for a in record["annotations"]] == [0, 1]
    with pytest.raises(ValueError, match="'b' has no class 'tram'; it has pedestrian, people"):
        register_from_specs([f"b=visdrone:{folder}@classes=tram"])


def test_a_video_beside_a_mot_export_is_no_option(tmp_path) -> None:
    specs = [
        f"{n}=cvat_mot:{tmp_path}{rest}" for n, rest in enumerate(("@1-2", "@classes=a", "@v"))
    ]
    register_from_specs(specs)
    for name in ("0", "1"):  # the export itself is looked for, not a video of that name
        with pytest.raises(FileNotFoundError, match=r"has a gt/gt\.txt"):
            DatasetCatalog.get(name)


def test_same_spec_twice_is_nothing_new_but_another_is_an_error(mot_sequence) -> None:
    folder = mot_sequence()
    spec = f"a=mot_challenge:{folder}"
    register_from_specs([spec])
    register_from_specs([spec, spec])
    assert len(DatasetCatalog.get("a")) == 5
    with pytest.raises(ValueError, match=r"stands for something else already \('a=mot_challenge:"):
        register_from_specs([f"{spec}@1-2"])
    with pytest.raises(ValueError, match="stands for something else already; choose"):
        register_from_specs([f"imagenet_vid_val=mot_challenge:{folder}"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mot_challenge:/x", "cannot read the dataset 'mot_challenge:/x'; write NAME="),
        ("a=coco:/x", "cannot read the dataset 'a=coco:/x'"),
        ("a b=mot_challenge:/x", "cannot read the dataset"),
        ("a=mot_challenge:", "cannot read the dataset"),
        ("a=imagenet_vid:/x", "write NAME=imagenet_vid:ROOT@LIST"),
        ("a=coco_vid:/x", r"write NAME=coco_vid:ROOT@FILE\.json\[@annotated_only\]"),
        ("a=coco_vid:/x@y.json@from_1", "cannot read the dataset 'a=coco_vid"),
        ("a=coco_frames:x@y.json@all_frames", "cannot read the dataset 'a=coco_frames"),
        ("a=video_files:x@y.txt", "cannot read the dataset 'a=video_files"),
        ("a=mot_challenge:/x@5-2", r"1 <= first <= last, got \(5, 2\)"),
        ("a=mot_challenge:/x@0-2", r"1 <= first <= last, got \(0, 2\)"),
    ],
)
def test_malformed_specs(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_from_specs([spec])
    assert "a" not in DatasetCatalog


def test_another_kind_can_be_added(monkeypatch) -> None:
    monkeypatch.setattr("iff_detectron2.data.datasets.specs.SPEC_FORMS", dict(SPEC_FORMS))
    seen = []

    def register(name: str, path: str, part: str | None) -> None:
        seen.append((name, path, part))
        DatasetCatalog.register(name, list)

    add_spec_form("mine", SpecForm("PATH[@PART]", r"([^@]+)(?:@(\w+))?", register))
    register_from_specs(["a=mine:x/y@z", "b=mine:x"])
    assert seen == [("a", "x/y", "z"), ("b", "x", None)]
    with pytest.raises(ValueError, match=r"'c=mine:@'; write NAME=mine:PATH\[@PART\]"):
        register_from_specs(["c=mine:@"])
    with pytest.raises(ValueError, match="'mine' is known already"):
        add_spec_form("mine", SpecForm("", "", register))
    with pytest.raises(ValueError, match="must be one word, got 'my kind'"):
        add_spec_form("my kind", SpecForm("", "", register))
