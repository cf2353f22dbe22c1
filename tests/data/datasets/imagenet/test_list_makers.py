"""Lists made from a bare tree: only file names and DET annotations count."""

from __future__ import annotations

from pathlib import Path

import pytest

from iff_detectron2.data.datasets.imagenet.list_makers import LIST_MAKERS, find_stills, find_videos


@pytest.fixture
def frames(tmp_path: Path):
    """Make empty frame files of a video below Data/VID."""

    def make(video: str, numbers: range, name: str = "{:06d}.JPEG") -> Path:
        folder = tmp_path / "Data/VID" / video
        folder.mkdir(parents=True)
        for number in numbers:
            (folder / name.format(number)).touch()
        return folder

    return make


def make(part: str, root: Path) -> list[str]:
    return LIST_MAKERS[part][1](root).lines


def test_videos_are_found_at_any_depth_and_sorted(tmp_path: Path, frames) -> None:
    frames("train/b/v2", range(30))
    frames("train/a/v3", range(3))
    frames("train/c", range(1))
    frames("val/z", range(7))
    assert find_videos(tmp_path, "train") == [
        ("train/a/v3", 3),
        ("train/b/v2", 30),
        ("train/c", 1),
    ]
    assert make("train", tmp_path) == [
        *(f"train/a/v3 1 {t} 3" for t in range(3)),
        *(f"train/b/v2 1 {t} 30" for t in range(1, 30, 2)),
        "train/c 1 0 1",
    ]
    assert make("val", tmp_path) == ["val/z 1 0 7"]


@pytest.mark.parametrize(
    ("numbers", "name", "message"),
    [
        (range(1, 4), "{:06d}.JPEG", r"frames of .*train/v count from 1; they must count from 0"),
        (range(2, 5), "{:06d}.JPEG", r"3 frames up to 000004\.JPEG, but no 000000\.JPEG"),
        (range(0, 6, 2), "{:06d}.JPEG", r"3 frames up to 000004\.JPEG, but no 000001\.JPEG"),
        (range(3), "{:04d}.JPEG", r"train/v/000.\.JPEG is not named as a frame"),
        (range(3), "img_{:06d}.JPEG", r"img_00000.\.JPEG is not named as a frame"),
    ],
)
def test_misnumbered_frames_are_refused(tmp_path: Path, frames, numbers, name, message) -> None:
    frames("train/v", numbers, name)
    with pytest.raises(ValueError, match=message):
        find_videos(tmp_path, "train")


def test_no_video_is_an_error(tmp_path: Path, frames) -> None:
    with pytest.raises(FileNotFoundError, match="Data/VID/train"):
        find_videos(tmp_path, "train")
    frames("train/v", range(3), "{:06d}.png")
    with pytest.raises(FileNotFoundError, match=r"no folder with \.JPEG frames lies below"):
        find_videos(tmp_path, "train")


def test_stills_are_found_by_exact_synset(tiny_vid) -> None:
    folder = tiny_vid.root / "Annotations/DET/train"
    box = (1, 2, 9, 9)
    for name, synsets in {
        "ILSVRC2013_train/n02084071/dog": ["n02084071"],
        "ILSVRC2013_train/n02084071/poodle": ["n02113799"],  # a dog's folder is not enough
        "ILSVRC2014_train_0000/both": ["n02691156", "n02084071", "n02084071"],
        "ILSVRC2013_train_extra0/nothing": [],
    }.items():
        objects = [(synset, None, box) for synset in synsets]
        tiny_vid.write_xml(folder / f"{name}.xml", (64, 48), objects)
    found = find_stills(tiny_vid.root, ["n02691156", "n02084071", "n02391049"])
    assert found == {
        "n02691156": ["train/ILSVRC2014_train_0000/both"],
        "n02084071": [
            "train/ILSVRC2013_train/n02084071/dog",
            "train/ILSVRC2014_train_0000/both",
        ],
        "n02391049": [],
    }
    assert make("det", tiny_vid.root) == [
        "train/ILSVRC2014_train_0000/both 1",  # of an airplane, class 1
        "train/ILSVRC2014_train_0000/both 1",  # of a dog, class 9
        "train/ILSVRC2013_train/n02084071/dog 1",
    ]


def test_malformed_still_is_named(tiny_vid) -> None:
    path = tiny_vid.root / "Annotations/DET/train/a.xml"
    tiny_vid.write_xml(path, (64, 48), [("n07739125", None, (1, 2, 9, 9))])
    with pytest.raises(ValueError, match="has an object of the 30 classes"):
        make("det", tiny_vid.root)
    path.write_text("<annotation>")
    with pytest.raises(ValueError, match=r"a\.xml is not well-formed"):
        make("det", tiny_vid.root)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no annotation lies below"):
        make("det", tiny_vid.root)
