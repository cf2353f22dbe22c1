from __future__ import annotations

import cv2
import numpy as np
import pytest

from iff_detectron2.video.writer import VideoWriter, writable_rate


def smooth_frame(index: int, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    channels = [60 + x, 60 + y, np.full_like(x, 20 * index + 20)]
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def write_video(path, frames) -> None:
    with VideoWriter(path, fps=5) as video:
        for frame in frames:
            video.write(frame)


def read(path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    frames, fps = [], capture.get(cv2.CAP_PROP_FPS)
    while True:
        more, frame = capture.read()
        if not more:
            return frames, fps
        frames.append(frame)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.mp4", "mpeg4"), ("v.avi", ""), ("v.avi", "MJPG"), ("v.webm", ""), ("v.mp4", "")],
)
def test_round_trip(tmp_path, name, codec):
    written = [smooth_frame(i, 96, 128) for i in range(9)]
    with VideoWriter(tmp_path / "new_folder" / name, fps=12.5, codec=codec) as video:
        for frame in written:
            video.write(frame)
    frames, fps = read(tmp_path / "new_folder" / name)
    assert fps == pytest.approx(12.5)
    assert len(frames) == len(written)
    for frame, original in zip(frames, written, strict=True):
        assert frame.shape == original.shape
        assert np.abs(frame.astype(int) - original).mean() < 8
    assert [path.name for path in (tmp_path / "new_folder").iterdir()] == [name]


def test_odd_sides_are_padded_to_even_ones(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", fps=5) as video:
        for i in range(3):
            video.write(smooth_frame(i, 63, 95))
    frames, _ = read(tmp_path / "v.mp4")
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 3
    difference = np.abs(frames[1][:63, :95].astype(int) - smooth_frame(1, 63, 95))
    assert difference.mean() < 4


def test_frames_of_another_size_are_refused_and_nothing_is_left(tmp_path):
    frames = [smooth_frame(0, 64, 48), smooth_frame(1, 48, 64)]
    with pytest.raises(ValueError, match="frame 1 is 64x48, but the video is 48x64"):
        write_video(tmp_path / "v.mp4", frames)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_keeps_the_older_video(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"older")

    def failing_detector():
        yield smooth_frame(0, 64, 64)
        raise KeyError("detector")

    with pytest.raises(KeyError):
        write_video(path, failing_detector())
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_no_frames_is_an_error(tmp_path):
    with (
        pytest.raises(ValueError, match="no frame was written"),
        VideoWriter(tmp_path / "v.mp4", fps=5),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_lost_frames_are_noticed(tmp_path, monkeypatch):
    class FullDisk:
        """A stand-in for OpenCV's writer that drops the third frame without a word."""

        def __init__(self, *settings):
            self.writer, self.count = real_writer(*settings), 0

        def isOpened(self):
            return self.writer.isOpened()

        def release(self):
            self.writer.release()

        def write(self, frame):
            self.count += 1
            if self.count != 3:
                self.writer.write(frame)

        fourcc = staticmethod(cv2.VideoWriter.fourcc)

    real_writer = cv2.VideoWriter
    monkeypatch.setattr(cv2, "VideoWriter", FullDisk)
    with pytest.raises(OSError, match="only 3 of 4 frames reached the file"):
        write_video(tmp_path / "v.mp4", [smooth_frame(i, 64, 64) for i in range(4)])
    assert list(tmp_path.iterdir()) == []


# What phones, screen recorders and broadcasts say.
RATES = [211.222, 66.667, 90000, 23.976, 29.97, 59.94, 0.5, 1000, 600, 240.01, 14.985, 119.88]
RATES += [1 / 3, 65.535, 655.35, 1e-4, 12.5]


@pytest.mark.parametrize("name", ["v.webm", "v.mp4", "v.avi"])
def test_every_rate_is_written(tmp_path, name):
    """MPEG-4 takes no more than 65535 parts of a second, and others say nothing of it."""
    for fps in RATES:
        codec = "mpeg4" if name == "v.mp4" else ""
        with VideoWriter(tmp_path / name, fps, codec) as video:
            video.write(smooth_frame(0, 32, 32))
        assert (tmp_path / name).stat().st_size > 0


def test_rates_are_rounded_as_little_as_can_be():
    assert [writable_rate(fps) for fps in (23.976, 211.222, 66.667, 90000, 1e-4)] == [
        *(23.976, 211.22, 66.67, 600, 0.3)
    ]


def test_opencv_says_nothing_of_a_file_that_it_writes(tmp_path, capfd):
    with VideoWriter(tmp_path / "v.webm", fps=5) as video:
        video.write(smooth_frame(0, 32, 32))
    assert capfd.readouterr().err == ""


def test_a_trial_leaves_nothing(tmp_path):
    (tmp_path / "v.webm").write_bytes(b"older")
    VideoWriter(tmp_path / "v.webm", fps=5).try_out()
    assert [path.name for path in tmp_path.iterdir()] == ["v.webm"]
    assert (tmp_path / "v.webm").read_bytes() == b"older"
    with pytest.raises(OSError, match=r"v\.mp4: OpenCV cannot open a \.mp4 file with codec 'QQQQ'"):
        VideoWriter(tmp_path / "v.mp4", fps=5, codec="QQQQ").try_out()


def test_unknown_codec_is_a_clear_error(tmp_path):
    with (
        pytest.raises(OSError, match=r"cannot open a \.mp4 file with codec 'QQQQ'"),
        VideoWriter(tmp_path / "v.mp4", fps=5, codec="QQQQ") as video,
    ):
        video.write(smooth_frame(0, 64, 64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"path": "v.mp4", "fps": 0}, "frames per second must be positive, got 0"),
        ({"path": "v.mp4", "fps": float("nan")}, "frames per second must be positive, got nan"),
        ({"path": "v", "fps": 5}, "no way to write a codec into a file without suffix"),
        ({"path": "v.mp4", "fps": 5, "codec": "h264x"}, "no way to write codec 'h264x' into .mp4"),
        ({"path": "v.webm", "fps": 5, "codec": "mpeg4"}, "choose one of vp8 in .webm or .mkv, vp9"),
    ],
)
def test_wrong_settings_are_named(kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        VideoWriter(**kwargs)


def test_wrong_frames_are_named(tmp_path):
    with (
        pytest.raises(TypeError, match=r"frame 0 of .*v.mp4 must be uint8"),
        VideoWriter(tmp_path / "v.mp4", fps=5) as video,
    ):
        video.write(np.zeros((8, 8, 3)))
