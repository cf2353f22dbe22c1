"""Raw video as training data: which frames are found, and which are held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iff_detectron2.data.raw_videos import find_videos, read_raw_videos


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Make two folders of images, of 10 and of 3 frames, and one that holds neither."""
    for name, length in (("b", 10), ("a", 3)):
        (tmp_path / name).mkdir()
        for t in range(length):
            Image.fromarray(np.full((6, 8, 3), t, np.uint8)).save(tmp_path / name / f"{t}.png")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.txt").write_text("no video")
    return tmp_path


def test_folders_of_folders(folders: Path) -> None:
    videos = find_videos([folders])
    assert list(videos) == [str(folders / "a"), str(folders / "b")]
    # In natural order: 2.png before 10.png would be; here by the numbers.
    assert [Path(f).name for f in videos[str(folders / "b")]] == [f"{t}.png" for t in range(10)]


def test_the_end_is_held_out_and_short_videos_are_left_out(folders: Path) -> None:
    raw = read_raw_videos([folders], held_out=0.3)
    assert [d["file_name"] for d in raw.train] == [
        str(folders / "b" / f"{t}.png") for t in range(7)
    ]
    assert [d["file_name"] for d in raw.held_out] == [
        str(folders / "b" / f"{t}.png") for t in (7, 8, 9)
    ]
    assert [d["frame_index"] for d in raw.held_out] == [0, 1, 2]
    assert {d["video_length"] for d in raw.held_out} == {3}
    # References cannot come from the other part.
    for part in (raw.train, raw.held_out):
        (video_id,) = {d["video_id"] for d in part}
        assert list(raw.frame_index[video_id]) == [d["file_name"] for d in part]


def test_no_frame_has_labels(folders: Path) -> None:
    raw = read_raw_videos([folders / "b"])
    assert not any("annotations" in d for d in (*raw.train, *raw.held_out))
    assert len({d["image_id"] for d in (*raw.train, *raw.held_out)}) == 10


def test_what_is_no_video_is_named(folders: Path) -> None:
    with pytest.raises(ValueError, match=r"notes holds no video"):
        find_videos([folders / "notes"])
    with pytest.raises(ValueError, match=r"read\.txt holds no video"):
        find_videos([folders / "notes" / "read.txt"])
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        find_videos([folders / "gone"])
    with pytest.raises(ValueError, match="a has the 4 frames"):
        read_raw_videos([folders / "a"])
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        read_raw_videos([folders], held_out=1)
