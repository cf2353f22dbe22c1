from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from coded_video import coded_frame, decode_in_order, shown_number, write_coded_video
from detectron2.data import detection_utils as utils
from PIL import Image

from iff_detectron2.data import read_frame
from iff_detectron2.video import frames as video_frames
from iff_detectron2.video.frames import (
    VideoFileFrames,
    VideoFrameCache,
    split_frame_name,
    video_frame_size,
    video_length,
)

NUM_FRAMES = 40


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "v.avi"
    write_coded_video(path, "XVID", NUM_FRAMES)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.mp4#frame=12", ("a/b.mp4", 12)),
        ("a#frame=3/b.mp4#frame=0", ("a#frame=3/b.mp4", 0)),
        ("a/b.jpg", None),
        ("a/b.mp4#frame=", None),
        ("a/b.mp4#frame=-1", None),
        ("#frame=1", None),
    ],
)
def test_names(name: str, expected) -> None:
    assert split_frame_name(name) == expected


def test_frames_of_a_file_are_a_sequence_of_names() -> None:
    frames = VideoFileFrames("v.avi", range(3))
    assert list(frames) == ["v.avi#frame=0", "v.avi#frame=1", "v.avi#frame=2"]
    assert list(frames[1:]) == ["v.avi#frame=1", "v.avi#frame=2"]
    assert frames[1:] == VideoFileFrames("v.avi", range(1, 3))
    with pytest.raises(IndexError):
        frames[3]


@pytest.mark.parametrize("image_format", ["BGR", "RGB", "L", None, "YUV-BT.601"])
def test_formats_are_those_of_read_image(video: Path, tmp_path: Path, image_format) -> None:
    frame = decode_in_order(video)[7]
    Image.fromarray(frame[..., ::-1]).save(tmp_path / "frame.png")
    read = read_frame(f"{video}#frame=7", image_format)
    np.testing.assert_array_equal(read, utils.read_image(str(tmp_path / "frame.png"), image_format))
    np.testing.assert_array_equal(read, read_frame(str(tmp_path / "frame.png"), image_format))


def test_length_and_size(video: Path) -> None:
    assert video_length(str(video)) == NUM_FRAMES
    assert video_frame_size(str(video)) == (96, 64)


def test_what_is_read_is_the_callers_own(video: Path) -> None:
    read_frame(f"{video}#frame=7", "BGR")[:] = 0
    assert shown_number(read_frame(f"{video}#frame=7", "BGR")) == 7


def test_refs_come_from_the_cache(video: Path, monkeypatch) -> None:
    cache = VideoFrameCache()
    assert shown_number(cache.read(str(video), 30)) == 30
    monkeypatch.setattr(video_frames.VideoFile, "read", None)  # would fail if it was called
    assert shown_number(cache.read(str(video), 29)) == 29


def test_the_cache_stays_small(video: Path, tmp_path: Path) -> None:
    paths = [video, *(tmp_path / f"{k}.avi" for k in range(3))]
    for path in paths[1:]:
        path.write_bytes(video.read_bytes())
    size = coded_frame(0).nbytes
    cache = VideoFrameCache(open_files=2, kept_bytes=5 * size)
    for number in (5, 25, 8, 39, 0):
        for path in paths:
            assert shown_number(cache.read(str(path), number)) == number
            assert len(cache._files) <= 2
            assert sum(frame.nbytes for frame in cache._frames.values()) == cache._bytes
            assert cache._bytes <= 5 * size
    tiny = VideoFrameCache(kept_bytes=1)
    assert [shown_number(tiny.read(str(video), n)) for n in (20, 3)] == [20, 3]


def test_errors_name_file_and_frame(video: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"v\.avi has 40 frames, frame 40 was asked for"):
        read_frame(f"{video}#frame=40")
    with pytest.raises(FileNotFoundError, match=r"gone\.avi does not exist"):
        read_frame(f"{tmp_path}/gone.avi#frame=0")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n/etc/passwd\n")
    with pytest.raises(ValueError, match=r"list\.m3u8 must be a file of the kinds \.avi, "):
        read_frame(f"{tmp_path}/list.m3u8#frame=0")


def _numbers(path: str, numbers: list[int], queue) -> None:
    queue.put([shown_number(read_frame(f"{path}#frame={n}", "BGR")) for n in numbers])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork processes")
def test_forked_workers_read_on_their_own(video: Path) -> None:
    """The parent has the file open at frame 20; two workers and the parent read on at once."""
    assert shown_number(read_frame(f"{video}#frame=20", "BGR")) == 20
    context = multiprocessing.get_context("fork")
    orders = [list(range(21, 40)), list(range(39, 0, -3))]
    queues = [context.Queue() for _ in orders]
    workers = [
        context.Process(target=_numbers, args=(str(video), order, queue))
        for order, queue in zip(orders, queues, strict=True)
    ]
    for worker in workers:
        worker.start()
    for number in range(21, 40):
        assert shown_number(read_frame(f"{video}#frame={number}", "BGR")) == number
    for order, queue, worker in zip(orders, queues, workers, strict=True):
        assert queue.get(timeout=60) == order
        worker.join(timeout=60)
        assert worker.exitcode == 0
