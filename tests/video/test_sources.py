import cv2
import numpy as np
import pytest
from PIL import Image

from iff_detectron2.video import sources as frame_sources
from iff_detectron2.video.sources import (
    BadFrame,
    CameraSource,
    FileSource,
    FolderSource,
    bridged,
    open_source,
)


def picture(t, height=48, width=64):
    """Return a frame that tells its number: its grey is 20 times that."""
    return np.full((height, width, 3), 20 * t, np.uint8)


def number(frame):
    return round(frame.mean() / 20)


@pytest.fixture
def folder(tmp_path):
    """Frames 0 to 11 as `img_0.png` to `img_11.png`, and a file that is no image."""
    for t in range(12):
        Image.fromarray(picture(t)).save(tmp_path / f"img_{t}.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def video(tmp_path):
    """Frames 0 to 11 as motion JPEG, in which each frame stands alone."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12, (64, 48))
    for t in range(12):
        writer.write(picture(t))
    writer.release()
    return path


def damage(path, frame):
    """Overwrite one motion JPEG frame with zeros."""
    data = bytearray(path.read_bytes())
    at = data.index(b"movi")
    for _ in range(frame + 1):
        at = data.index(b"00dc", at + 1)
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    data[at + 8 : at + 8 + size] = bytes(size)
    path.write_bytes(data)


def test_folder_is_read_in_natural_order(folder):
    source = open_source(str(folder))
    assert isinstance(source, FolderSource)
    assert (source.num_frames, source.fps, source.name) == (12, 25.0, folder.name)
    assert [number(frame) for frame in source.read()] == list(range(12))
    assert [number(frame) for frame in source.read(start=9)] == [9, 10, 11]


def test_folder_gives_bgr(tmp_path):
    Image.fromarray(np.full((4, 6, 3), (250, 100, 50), np.uint8)).save(tmp_path / "1.png")
    (frame,) = FolderSource(tmp_path).read()
    assert frame[0, 0].tolist() == [50, 100, 250]
    assert frame.flags.c_contiguous


def test_an_image_that_cannot_be_decoded_is_named(folder):
    (folder / "img_3.png").write_bytes(b"no png")
    (folder / "img_4.png").write_bytes((folder / "img_5.png").read_bytes()[:60])
    frames = list(FolderSource(folder).read())
    assert [isinstance(frame, BadFrame) for frame in frames].count(True) == 2
    for t in (3, 4):
        assert f"img_{t}.png cannot be decoded" in frames[t].reason


def test_hidden_files_and_dangling_links(folder):
    (folder / "._img_2.png").write_bytes(b"macOS")
    (folder / "img_5.png").unlink()
    (folder / "img_5.png").symlink_to(folder / "gone.png")
    source = open_source(str(folder))
    frames = list(source.read())
    assert source.num_frames == len(frames) == 12
    assert [t for t, frame in enumerate(frames) if isinstance(frame, BadFrame)] == [5]
    assert frames[5].reason.endswith("img_5.png is a link that leads nowhere")
    assert source.identity()["frames"] == 12


def test_video_file(video):
    source = open_source(str(video))
    assert isinstance(source, FileSource)
    assert (source.num_frames, source.fps, source.name) == (12, 12.0, "film")
    assert [number(frame) for frame in source.read()] == list(range(12))
    assert [number(frame) for frame in source.read(start=7)] == [7, 8, 9, 10, 11]
    assert not source.notes


def test_damaged_frames_of_a_video_keep_their_place(video):
    damage(video, 4)
    damage(video, 5)
    source = FileSource(video)
    frames = list(source.read())
    assert len(frames) == 12
    assert [t for t, frame in enumerate(frames) if isinstance(frame, BadFrame)] == [4, 5]
    assert [number(f) for f in frames if not isinstance(f, BadFrame)] == [0, 1, 2, 3, *range(6, 12)]
    assert not source.notes
    rest = list(source.read(start=5))
    assert isinstance(rest[0], BadFrame)
    assert [number(frame) for frame in rest[1:]] == list(range(6, 12))


def test_a_video_that_is_cut_off_ends_with_a_note(video):
    data = video.read_bytes()
    at = data.index(b"movi")
    for _ in range(9):
        at = data.index(b"00dc", at + 1)
    video.write_bytes(data[: at + 20])
    source = FileSource(video)
    frames = list(source.read())
    assert 0 < len(frames) < 12
    assert not any(isinstance(frame, BadFrame) for frame in frames)
    (note,) = source.notes
    assert note == f"{video} is said to have 12 frames, {len(frames)} could be read"


def test_bridging():
    a, b, bad = picture(1), picture(2), BadFrame("broken")
    result = list(bridged(iter([bad, bad, a, bad, b, bad])))
    assert [number(frame) for frame, _ in result] == [1, 1, 1, 1, 2, 2]
    assert [reason for _, reason in result] == ["broken", "broken", None, "broken", None, "broken"]
    with pytest.raises(ValueError, match="no frame could be decoded; the first: broken"):
        list(bridged(iter([bad])))
    with pytest.raises(ValueError, match="no frame could be decoded"):
        list(bridged(iter([])))


def test_identity_changes_with_the_content(folder, video):
    before = FolderSource(folder).identity(), FileSource(video).identity()
    assert before == (FolderSource(folder).identity(), FileSource(video).identity())
    (folder / "img_11.png").unlink()
    video.write_bytes(video.read_bytes() + b"0")
    assert before[0] != FolderSource(folder).identity()
    assert before[1] != FileSource(video).identity()


class FakeCapture:
    """Three frames of a camera, in place of OpenCV's capture."""

    def __init__(self, index):
        self.frames = [picture(t) for t in range(3)] if index == 7 else None

    def isOpened(self):
        return self.frames is not None

    def get(self, what):
        return 0.0

    def read(self):
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def release(self):
        self.frames = None


def test_camera(monkeypatch):
    monkeypatch.setattr(frame_sources.cv2, "VideoCapture", FakeCapture)
    source = open_source("7", fps=5)
    assert isinstance(source, CameraSource)
    assert (source.num_frames, source.fps, source.name) == (None, 5, "camera_7")
    assert [number(frame) for frame in source.read()] == [0, 1, 2]
    with pytest.raises(ValueError, match="no camera 3"):
        open_source("3")
    with pytest.raises(ValueError, match="in the past"):
        next(open_source("7").read(start=1))


def test_what_is_no_video_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        open_source(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"there is no .*nothing: no video file, no folder"):
        open_source(str(tmp_path / "nothing"))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(OSError, match=r"text\.mp4 is text"):
        open_source(str(text))
    text.write_bytes(bytes(100))
    with pytest.raises(OSError, match=r"text\.mp4 cannot be opened"):
        open_source(str(text))
    Image.fromarray(picture(1)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match="must be positive"):
        open_source(str(tmp_path), fps=0)
