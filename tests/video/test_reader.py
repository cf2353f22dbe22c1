from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from coded_video import decode_in_order, shown_number, vary_frame_rate, write_coded_video

from iff_detectron2.video.reader import VideoFile

NUM_FRAMES = 60
# File and codec; MPEG-2 has frames whose order in the file is not that of their times.
KINDS = {
    "a.mp4": "mp4v",
    "b.avi": "MJPG",
    "c.avi": "XVID",
    "d.mkv": "mpg2",
    "e.ts": "mpg2",
    "f.mpg": "mpg2",
    "g.avi": "mpg2",
    "h.webm": "VP80",
}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Video files of all kinds, made when asked for."""
    folder = tmp_path_factory.mktemp("videos")

    def find(name: str) -> Path:
        path = folder / name
        if path.exists():
            return path
        if name.startswith("varying"):
            source = "a.mp4" if name.endswith("1.mkv") else "b.avi"
            vary_frame_rate(find(source), path, KINDS[source])
        else:
            write_coded_video(path, KINDS[name], NUM_FRAMES)
        return path

    return find


@pytest.mark.parametrize("name", [*KINDS, "varying1.mkv", "varying2.mkv"])
def test_any_order_gives_what_decoding_from_the_start_gives(video, name: str) -> None:
    expected = decode_in_order(video(name))
    assert [shown_number(frame) for frame in expected] == list(range(NUM_FRAMES))
    order = [*range(NUM_FRAMES - 1, -1, -7), *range(NUM_FRAMES), 0, NUM_FRAMES - 1]
    random.Random(1).shuffle(order)
    file = VideoFile(video(name))
    assert len(file) == NUM_FRAMES
    for number in order:
        np.testing.assert_array_equal(file[number], expected[number], err_msg=f"frame {number}")


@pytest.mark.parametrize("name", ["a.mp4", "d.mkv", "e.ts"])
def test_seeking_is_used(video, name: str, monkeypatch) -> None:
    """Of files with key frames the beginning is not decoded again."""
    file = VideoFile(video(name))
    advanced = []
    advance = VideoFile._advance
    monkeypatch.setattr(VideoFile, "_advance", lambda self: advanced.append(0) or advance(self))
    assert shown_number(file[55]) == 55
    assert shown_number(file[29]) == 29
    assert len(advanced) < 60


def test_a_known_table_spares_the_scan(video, monkeypatch) -> None:
    table = VideoFile(video("d.mkv")).table
    monkeypatch.setattr(VideoFile, "_scan_packets", None)  # would fail if it was called
    file = VideoFile(video("d.mkv"), table)
    assert len(file) == NUM_FRAMES
    assert [shown_number(file[number]) for number in (44, 7, 0)] == [44, 7, 0]


def test_frames_on_the_way_are_returned(video) -> None:
    file = VideoFile(video("a.mp4"))
    frames = file.read(9, before=4)
    assert [(n, shown_number(frame)) for n, frame in frames.items()] == [
        (n, n) for n in (5, 6, 7, 8, 9)
    ]
    # A seek starts at a key frame: there may be fewer.
    later = file.read(50, before=16)
    assert list(later)[-1] == 50
    assert [shown_number(frame) for frame in later.values()] == list(later)


def test_a_phone_held_upright(video, tmp_path: Path) -> None:
    """A quarter turn in the track header of an mp4 file: the frames come turned."""
    content = bytearray(video("a.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    (tmp_path / "phone.mp4").write_bytes(content)
    file, plain = VideoFile(tmp_path / "phone.mp4"), VideoFile(video("a.mp4"))
    for number in (40, 3):
        np.testing.assert_array_equal(file[number], np.rot90(plain[number], -1))


@pytest.mark.parametrize("number", [-1, NUM_FRAMES, 10**9])
def test_frames_that_the_video_does_not_have(video, number: int) -> None:
    with pytest.raises(IndexError, match=rf"a\.mp4 has 60 frames, frame {number} was asked for"):
        VideoFile(video("a.mp4"))[number]


def test_missing_file_and_no_video(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.mp4 does not exist"):
        VideoFile(tmp_path / "x.mp4")
    (tmp_path / "y.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(OSError, match=r"y\.mp4 cannot be opened; is it a complete video file"):
        VideoFile(tmp_path / "y.mp4")


def test_cut_mp4(video, tmp_path: Path) -> None:
    """The table of an mp4 file stands at its end."""
    content = video("a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=r"cut\.mp4 cannot be opened"):
        VideoFile(tmp_path / "cut.mp4")


@pytest.mark.parametrize("name", ["b.avi", "d.mkv", "e.ts"])
def test_cut_in_the_middle(video, tmp_path: Path, name: str) -> None:
    """What is there can be read, and no frame is passed off as another."""
    content = video(name).read_bytes()
    path = tmp_path / f"cut_{name}"
    path.write_bytes(content[: len(content) // 2])
    whole = decode_in_order(path)
    assert 10 < len(whole) < NUM_FRAMES
    file = VideoFile(path)
    last = len(whole) - 1
    for number in (3, last, 0, last - 1):
        np.testing.assert_array_equal(file[number], whole[number])
    with pytest.raises((IndexError, OSError), match=f"cut_{name}"):
        file[last + 3]
    assert len(file) >= len(whole)


def test_packets_without_frames_are_noticed(video, monkeypatch) -> None:
    """A packet that decoding passes without a frame has the file counted by decoding."""
    scan = VideoFile._scan_packets

    def with_a_ghost(self):
        table = scan(self)
        table.times.insert(21, table.times[20] + 1)
        table.keys = type(table.keys)("q", [key + (key > 20) for key in table.keys])
        return table

    monkeypatch.setattr(VideoFile, "_scan_packets", with_a_ghost)
    file = VideoFile(video("a.mp4"))
    assert len(file) == NUM_FRAMES + 1
    assert shown_number(file[22]) == 22
    assert len(file) == NUM_FRAMES
    assert shown_number(file[59]) == 59
