from __future__ import annotations

import random
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from coded_video import (
    damage_frames,
    decode_in_order,
    shown_number,
    trim,
    vary_frame_rate,
    write_coded_video,
)

from iff_detectron2.video import reader
from iff_detectron2.video.reader import BadFrame, VideoFile

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
    monkeypatch.setattr(
        VideoFile, "_advance", lambda self, table: advanced.append(0) or advance(self, table)
    )
    assert shown_number(file[55]) == 55
    assert shown_number(file[29]) == 29
    assert len(advanced) < 60


def test_a_known_table_spares_the_scan(video, monkeypatch) -> None:
    table = VideoFile(video("d.mkv")).table
    monkeypatch.setattr(reader, "scan_packets", None)  # would fail if it was called
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
    (tmp_path / "y.mp4").write_bytes(b"no\0video" * 100)
    with pytest.raises(OSError, match=r"y\.mp4 cannot be opened; is it a complete video file"):
        VideoFile(tmp_path / "y.mp4")


@pytest.mark.parametrize(
    "text", ["#EXTM3U\nother.mp4", "# a list\nffconcat version 1.0\nfile a.mp4\n", "v=0\nm=video 5"]
)
def test_lists_of_other_files_are_not_followed(video, tmp_path: Path, text: str) -> None:
    """FFmpeg goes by the content: a list in a file of any name leads it elsewhere."""
    (tmp_path / "a.mp4").write_bytes(video("a.mp4").read_bytes())
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(OSError, match=r"list\.mp4 is text, maybe a list of other files"):
        VideoFile(tmp_path / "list.mp4")


@pytest.mark.parametrize("bad", [{7}, {0}, {3, 4, 5, 40}, {0, 1, 20, 57}])
def test_a_refused_frame_keeps_its_number(video, tmp_path: Path, bad) -> None:
    """Reading in order, by number, before and after the damage: one count."""
    path = damage_frames(video("b.avi"), tmp_path / "damaged.avi", bad)
    file = VideoFile(path)
    assert len(file) == NUM_FRAMES
    order = [41, *sorted(bad), 39, 2, 8, 59, 6]
    for number in order:
        if number in bad:
            with pytest.raises(
                OSError, match=rf"frame {number} of the video .*damaged\.avi \(MJPG"
            ):
                file[number]
        else:
            assert shown_number(file[number]) == number
    assert len(file) == NUM_FRAMES
    in_order = list(file.frames())
    assert {n for n, frame in enumerate(in_order) if isinstance(frame, BadFrame)} == bad
    for number in set(range(NUM_FRAMES)) - bad:
        assert shown_number(in_order[number]) == number
    assert [isinstance(frame, BadFrame) for frame in VideoFile(path).frames(2)] == [
        number in bad for number in range(2, NUM_FRAMES)
    ]


def test_refused_frames_at_the_end_do_not_count(video, tmp_path: Path) -> None:
    path = damage_frames(video("b.avi"), tmp_path / "damaged.avi", {58, 59})
    assert len(VideoFile(path)) == 58
    assert len(list(VideoFile(path).frames())) == 58


def test_no_frame_decodes(video, tmp_path: Path) -> None:
    """As with a codec that this OpenCV lacks: the codec and the number of frames are named."""
    path = damage_frames(video("b.avi"), tmp_path / "none.avi", range(NUM_FRAMES))
    with pytest.raises(OSError, match=r"none of the 60 frames of .*none\.avi .* its codec is MJPG"):
        VideoFile(path)


@pytest.mark.parametrize(("first", "count"), [(7, 53), (0, 31), (20, 25)])
def test_a_trimmed_clip(video, tmp_path: Path, first: int, count: int) -> None:
    """The packets before the edit list's start are in the file, and are no frames."""
    path = trim(video("a.mp4"), tmp_path / "trimmed.mp4", first, count)
    expected = decode_in_order(path)
    assert [shown_number(frame) for frame in expected] == list(range(first, first + count))
    for file in (VideoFile(path), VideoFile(path)):
        assert len(file) == count
        order = list(range(count))
        random.Random(2).shuffle(order)
        for number in order:
            np.testing.assert_array_equal(file[number], expected[number])
        assert sum(1 for _ in file.frames()) == count
        with pytest.raises(IndexError, match=f"has {count} frames, frame {count} was asked for"):
            file[count]


def test_frames_in_order_are_decoded_once(video, monkeypatch) -> None:
    """Also where the packets do not tell the frames, so that nobody knows how many will come."""
    file = VideoFile(video("f.mpg"))
    assert file.known_length is None
    grabbed = []
    capture = cv2.VideoCapture

    class Counting:
        def __init__(self, *settings):
            self.capture = capture(*settings)

        def __getattr__(self, name):
            return getattr(self.capture, name)

        def grab(self):
            grabbed.append(self.capture.grab())
            return grabbed[-1]

    monkeypatch.setattr(cv2, "VideoCapture", Counting)
    assert [shown_number(frame) for frame in file.frames()] == list(range(NUM_FRAMES))
    assert grabbed.count(True) == NUM_FRAMES
    assert file.known_length == len(file) == NUM_FRAMES


@pytest.mark.parametrize("name", ["b.avi", "d.mkv", "f.mpg"])
def test_threads_share_a_file(video, name: str) -> None:
    file = VideoFile(video(name))

    def numbers(seed: int) -> bool:
        order = list(range(NUM_FRAMES))
        random.Random(seed).shuffle(order)
        return all(shown_number(file[number]) == number for number in order[:30])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(numbers, range(4)))


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


def test_packets_without_frames_are_no_frames(video, monkeypatch) -> None:
    """A packet behind the head that gives no frame is a frame that cannot be read, and stays one.

    One near an end has the file counted by decoding.
    """
    scan = reader.scan_packets
    for at, length, bad in [(40, NUM_FRAMES + 1, [40]), (5, NUM_FRAMES, []), (60, NUM_FRAMES, [])]:

        def with_a_ghost(path, at=at):
            packets = scan(path)
            return [*packets[:at], (packets[at - 1][0] + 1, False), *packets[at:]]

        monkeypatch.setattr(reader, "scan_packets", with_a_ghost)
        file = VideoFile(video("a.mp4"))
        assert len(file) == length
        frames = list(file.frames())
        assert [n for n, frame in enumerate(frames) if isinstance(frame, BadFrame)] == bad
        assert shown_number(frames[-1]) == shown_number(file[length - 1]) == NUM_FRAMES - 1
