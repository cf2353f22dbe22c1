from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from iff_detectron2.data.datasets.imagenet.lists import (
    FrameEntry,
    VideoEntry,
    guess_list_form,
    read_frames_list,
    read_stills_list,
    read_videos_list,
)


@pytest.fixture
def list_file(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "list.txt"
        path.write_text(text)
        return path

    return write


def test_real_stills_list(shared_dir: Path) -> None:
    path = shared_dir / "data/ImageSets/DET_train_30classes.txt"
    text = path.read_text()
    assert text.count("\n") + 1 == 53639  # the last line has no newline
    names = read_stills_list(path)
    assert len(names) == 53639
    assert len(set(names)) == 53237
    assert names[-1] == text.splitlines()[-1].split()[0]
    assert guess_list_form(path) == "stills"


def test_real_frames_list(shared_dir: Path) -> None:
    path = shared_dir / "data/ImageSets/VID_train_15frames.txt"
    entries = read_frames_list(path)
    per_video = Counter(entry.video for entry in entries)
    assert len(entries) == 57834
    assert len(per_video) == 3862
    short = [count for count in per_video.values() if count != 15]
    assert len(short) == 27
    assert (min(short), max(short)) == (6, 14)
    assert [e.frame for e in entries[:15]] == list(range(10, 300, 20))
    assert guess_list_form(path) == "frames"


def test_real_videos_list(shared_dir: Path) -> None:
    path = shared_dir / "data/ImageSets/VID_val_videos.txt"
    entries = read_videos_list(path)
    lengths = [entry.length for entry in entries]
    assert len(entries) == 555
    assert sum(lengths) == 176126
    assert (min(lengths), max(lengths)) == (11, 2898)
    assert entries[-1].first_id + entries[-1].length - 1 == 176126
    assert guess_list_form(path) == "videos"


def test_stills_keep_their_order_and_repeats(list_file) -> None:
    assert read_stills_list(list_file("b/2 1\na/1 1\nb/2 1\n\nc/3 1")) == [
        *("b/2", "a/1", "b/2", "c/3")
    ]


def test_entries_are_the_columns(list_file) -> None:
    assert read_frames_list(list_file("v 1 3 9\n")) == [FrameEntry("v", 3, 9)]
    assert read_videos_list(list_file("v 1 0 9\nw 10 0 2")) == [
        VideoEntry("v", 1, 9),
        VideoEntry("w", 10, 2),
    ]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("a 1\nb 1", "stills"),
        ("\na 1\nb 1", "stills"),
        ("a 1 0 6\nb 1 0 6", "frames"),
        ("a 1 0 6\na 1 1 6", "frames"),
        ("a 1 0 6\nb 7 0 6", "videos"),
        ("a 1 0 6", "videos"),
        ("a 1 5 6", "frames"),
    ],
)
def test_form_is_told_from_the_columns(list_file, text: str, form: str) -> None:
    assert guess_list_form(list_file(text)) == form


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (read_frames_list, "v 1 2 9\nv 1 9 9", r"list\.txt:2: frame 9 is outside a video of 9"),
        (read_frames_list, "v 1 2 9\nv 1 2 9", r":2: frame 2 of 'v' is listed twice"),
        (read_frames_list, "v 1 2 9\nv 1 3 8", r":2: 'v' has 8 frames here and 9 further up"),
        (read_frames_list, "v 1 x 9", r":1: the frame must be an integer, got 'x'"),
        (read_frames_list, "v 1 -1 9", r":1: the frame must be at least 0, got -1"),
        (read_frames_list, "v 2 1 9", r":1: the second column of a frame list is 1, got '2'"),
        (read_frames_list, "v 1 2", r":1: expected 4 columns, got 3"),
        (read_videos_list, "v 1 0 9\nw 9 0 2", r":2: the frame ids from 9 overlap"),
        (read_videos_list, "v 1 0 9\nv 10 0 2", r":2: 'v' is listed twice"),
        (read_videos_list, "v 1 1 9", r":1: the third column of a video list is 0, got '1'"),
        (read_videos_list, "v 1 0 0", r":1: the video length must be at least 1, got 0"),
        (read_stills_list, "/etc/passwd 1", r":1: '/etc/passwd' must be a relative path"),
        (read_stills_list, "a/../../b 1", r":1: 'a/\.\./\.\./b' must be a relative path"),
        (read_videos_list, "../v 1 0 9", r":1: '\.\./v' must be a relative path"),
        (read_stills_list, "\n \n", r"list\.txt is empty"),
        (read_frames_list, "", r"list\.txt is empty"),
    ],
)
def test_malformed_lists_name_file_and_line(list_file, reader, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reader(list_file(text))


@pytest.mark.parametrize("reader", [read_stills_list, guess_list_form])
def test_missing_list_says_what_to_do(tmp_path: Path, reader) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"nowhere\.txt .*DETECTRON2_DATASETS.*index.*synth"
    ):
        reader(tmp_path / "nowhere.txt")


@pytest.mark.parametrize("reader", [read_frames_list, read_videos_list])
@pytest.mark.parametrize("digits", [9, 25, 100_000])
@pytest.mark.parametrize("column", [2, 3])
def test_lengths_of_many_digits_are_refused_at_once(list_file, reader, digits, column) -> None:
    """X4: a reader that counts to such a number does not end."""
    fields = ["train/a", "1", "0", "3"]
    fields[column] = "9" * digits
    path = list_file(" ".join(fields))
    began = time.process_time()
    with pytest.raises(ValueError, match=r"list\.txt:1: "):
        reader(path)
    assert time.process_time() - began < 1
