import itertools
import json
import re
import threading

import cv2
import numpy as np
import pytest
from toy_models import tiny_cfg
from video_runs import SIZES, make_frames, make_model, write_frames

from iff_detectron2.data.network_input import NetworkInput
from iff_detectron2.engine import VideoPredictor
from iff_detectron2.inference.output import DrawingStyle, watchable_scale
from iff_detectron2.inference.run import JOURNAL, VideoRun, predict_video
from iff_detectron2.video import sources as frame_sources
from iff_detectron2.video.sources import FolderSource, open_source


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Return a folder of 14 frames, of which frames 0, 5 and 6 cannot be decoded."""
    folder = tmp_path_factory.mktemp("clip")
    paths = write_frames(folder, make_frames(14))
    for t in (0, 5, 6):
        paths[t].write_bytes(b"damaged")
    return folder


def run(model, source, output, *opts, said=None, stop=lambda: False, **options):
    cfg = tiny_cfg(*SIZES, *opts)
    draw = options.pop("draw", False)
    style = DrawingStyle(options.pop("draw_threshold", 0.5)) if draw else None
    options = {"drawing": style, "progress": False, **options}
    report = (said if said is not None else []).append
    predictor = VideoPredictor(cfg, model)
    done = predict_video(
        cfg, predictor, source, VideoRun(output, **options), stop=stop, report=report
    )
    return done, json.loads((output / "predictions.json").read_text())


def after(count):
    """Return a wish to stop that is there from the `count`-th time that it is asked for."""
    asked = itertools.count(1)
    return lambda: next(asked) >= count


def test_predictions_are_those_of_the_predictor(model, tmp_path):
    frames = make_frames(6)
    write_frames(tmp_path / "clip", frames)
    _, found = run(model, FolderSource(tmp_path / "clip"), tmp_path / "out")
    expected = []
    for index, _, instances in VideoPredictor(tiny_cfg(*SIZES), model)(frames):
        for box, score, class_id in zip(
            instances.pred_boxes.tensor.tolist(),
            instances.scores.tolist(),
            instances.pred_classes.tolist(),
            strict=True,
        ):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            where = {"image_id": index, "video_id": "clip", "frame_index": index}
            expected.append({**where, "category_id": class_id, "bbox": bbox, "score": score})
    assert found == expected
    summary = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (summary["frames"], summary["complete"], summary["bridged_frames"]) == (6, True, [])
    assert len(summary["class_names"]) == 8


def test_damaged_frames_are_bridged_and_listed(model, clip, tmp_path):
    said = []
    done, found = run(model, FolderSource(clip), tmp_path / "out", said=said)
    assert done
    whole = make_frames(14)
    stand_in = [whole[{0: 1, 5: 4, 6: 4}.get(t, t)] for t in range(14)]
    write_frames(tmp_path / "clip", stand_in)
    _, expected = run(model, FolderSource(tmp_path / "clip"), tmp_path / "expected")
    for a, b in zip(found, expected, strict=True):
        assert {**a, "video_id": "clip"} == b
    summary = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [b["frame"] for b in summary["bridged_frames"]] == [0, 5, 6]
    assert summary["bridged_frames"][1]["reason"].endswith(
        "5.png cannot be decoded (it is no image that Pillow knows)"
    )
    assert any("3 frames could not be read" in sentence for sentence in said)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("at", [1, 6, 7, 13])
def test_a_run_in_two_parts_ends_with_the_same_files(model, clip, tmp_path, causal, at):
    opts = ("TEST.VIDEO.CAUSAL", causal)
    run(model, FolderSource(clip), tmp_path / "whole", *opts)
    done, _ = run(model, FolderSource(clip), tmp_path / "parts", *opts, stop=after(at))
    assert not done
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["frames"] == at
    done, _ = run(model, FolderSource(clip), tmp_path / "parts", *opts)
    assert done
    for name in (JOURNAL, "predictions.json", "run.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_run_reads_nothing_again(model, clip, tmp_path, monkeypatch):
    _, first = run(model, FolderSource(clip), tmp_path)
    monkeypatch.setattr(VideoPredictor, "push", None)
    _, second = run(model, FolderSource(clip), tmp_path)
    assert first == second


def test_another_config_or_video_is_refused(model, clip, tmp_path):
    run(model, FolderSource(clip), tmp_path / "out", stop=after(2))
    with pytest.raises(ValueError, match="a run with another config"):
        run(model, FolderSource(clip), tmp_path / "out", "TEST.VIDEO.NUM_REFS", 2)
    write_frames(tmp_path / "clip", make_frames(3))
    with pytest.raises(ValueError, match="a run with another source"):
        run(model, FolderSource(tmp_path / "clip"), tmp_path / "out")


def test_post_processing_and_formats(model, clip, tmp_path):
    plus = ("TEST.VIDEO.POSTPROCESS", "seq_nms_plus")
    _, plain = run(model, FolderSource(clip), tmp_path, formats=("csv", "mot"))
    # The journal holds what the detector found, so that post-processing may change afterwards.
    _, tracked = run(model, FolderSource(clip), tmp_path, *plus, formats=("csv", "mot"), draw=True)
    assert any("track_id" in d for d in tracked)
    assert not any("track_id" in d for d in plain)
    lines = (tmp_path / "detections.txt").read_text().splitlines()
    assert len(lines) == len(plain)
    frame, number, *box, score, x, y, z = lines[0].split(",")
    assert (frame, number, x, y, z) == ("1", "-1", "-1", "-1", "-1")
    np.testing.assert_allclose([float(v) for v in box], plain[0]["bbox"], atol=0.006)
    assert float(score) == pytest.approx(plain[0]["score"], abs=6e-5)
    assert len((tmp_path / "detections.csv").read_text().splitlines()) == len(plain) + 1
    tracks = (tmp_path / "tracks.txt").read_text().splitlines()
    assert len(tracks) == sum("track_id" in d for d in tracked)
    assert (tmp_path / "tracks.csv").is_file()
    assert read_video(tmp_path / "annotated.webm").shape == (14, 480, 720, 3)


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (got := capture.read())[0]:
        frames.append(got[1])
    return np.stack(frames)


def test_the_annotated_video_shows_the_frames_and_the_boxes(model, tmp_path):
    frames = [np.full((96, 144, 3), 40 + 20 * t, np.uint8) for t in range(5)]
    write_frames(tmp_path / "clip", frames)
    source = FolderSource(tmp_path / "clip")
    run(model, source, tmp_path / "none", draw=True, draw_threshold=1.1)
    drawn = read_video(tmp_path / "none" / "annotated.webm")
    assert drawn.shape == (5, 480, 720, 3)
    # Below the caption all is the frame, in its order.
    assert [round(frame[40:].mean() / 20) for frame in drawn] == [2, 3, 4, 5, 6]
    run(model, source, tmp_path / "all", draw=True, draw_threshold=0.0)
    boxes = read_video(tmp_path / "all" / "annotated.webm")
    assert np.abs(boxes[:, 40:].astype(int) - drawn[:, 40:]).max() > 60


def test_a_change_of_size_is_fitted_into_the_annotated_video(model, tmp_path):
    frames = [*make_frames(3), *make_frames(3, 72, 48)]
    write_frames(tmp_path / "clip", frames)
    opts = ("TEST.VIDEO.ON_SIZE_CHANGE", "reset")
    run(model, FolderSource(tmp_path / "clip"), tmp_path, *opts, draw=True, draw_threshold=1.1)
    drawn = read_video(tmp_path / "annotated.webm")
    assert drawn.shape == (6, 480, 720, 3)
    assert drawn[5, :, 340:].max() < 30  # 48x72 is enlarged to 320x480, black beside it
    assert drawn[5, :, :320].mean() > 60


class FakeCamera:
    """Endless frames, in place of OpenCV's capture."""

    def __init__(self, index):
        self.frames = iter(make_frames(50))

    def isOpened(self):
        return True

    def get(self, what):
        return 10.0

    def read(self):
        return True, next(self.frames)

    def release(self):
        self.frames = iter(())


def test_a_camera_is_ended_by_the_user_and_loses_nothing(model, tmp_path, monkeypatch):
    monkeypatch.setattr(frame_sources.cv2, "VideoCapture", FakeCamera)
    camera = open_source("0")
    monkeypatch.undo()
    done, found = run(model, camera, tmp_path / "out", stop=after(8), draw=True)
    assert done
    count = 1 + max(d["frame_index"] for d in found)
    write_frames(tmp_path / "clip", make_frames(count))
    _, expected = run(model, FolderSource(tmp_path / "clip"), tmp_path / "expected")
    assert [d["score"] for d in found] == [d["score"] for d in expected]
    assert len(read_video(tmp_path / "out" / "annotated.webm")) == count
    with pytest.raises(ValueError, match="a camera cannot go on"):
        run(model, camera, tmp_path / "out")


def test_too_little_memory_is_refused_before_the_first_frame(model, clip, tmp_path):
    with pytest.raises(ValueError, match="does not fit into memory"):
        run(model, FolderSource(clip), tmp_path, "TEST.VIDEO.MEMORY_LIMIT", 1e-6)
    assert len((tmp_path / JOURNAL).read_text().splitlines()) == 1


def test_the_plan_is_told(model, clip, tmp_path):
    said = []
    run(model, FolderSource(clip), tmp_path, said=said)
    assert any("expected peak" in sentence and "5 frames" in sentence for sentence in said)


def test_speed_is_told_of_the_frames_of_this_run(model, clip, tmp_path):
    said = []
    run(model, FolderSource(clip), tmp_path / "out", said=said, stop=after(5))
    first = re.search(r"(\d+) frames in [\d.]+ s, [\d.]+ per second: (.*)", said[-1])
    assert first
    shares = dict(re.findall(r"([a-z ]+) (\d+)%", first[2]))
    assert {"detecting", "waiting for frames", "the rest"} == {name.strip() for name in shares}
    assert sum(map(int, shares.values())) == pytest.approx(100, abs=2)
    run(model, FolderSource(clip), tmp_path / "out", said=said)
    second = re.search(r"(\d+) frames in ", said[-1])
    assert second
    assert int(first[1]) + int(second[1]) == 14
    run(model, FolderSource(clip), tmp_path / "out", said=said)
    assert not re.search(r"\d+ frames in ", said[-1])


def test_small_frames_are_enlarged_by_whole_numbers():
    sizes = [(48, 72), (224, 224), (240, 320), (360, 480), (1080, 1920)]
    assert [watchable_scale(*size) for size in sizes] == [10, 3, 2, 1, 1]


class CountingSource(FolderSource):
    """Counts the frames that are decoded."""

    decoded = 0

    def read(self, start=0):
        for frame in super().read(start):
            self.decoded += 1
            yield frame


@pytest.mark.parametrize(("postprocess", "times"), [("", 1), ("seq_nms_plus", 2)])
def test_a_frame_is_decoded_once_unless_it_must_be_drawn_later(
    model, tmp_path, monkeypatch, postprocess, times
):
    write_frames(tmp_path / "clip", make_frames(6))
    source = CountingSource(tmp_path / "clip")
    resized, encoded = [], []
    to_input = NetworkInput.__call__

    def counted(self, frame):
        # The plan of memory is made of blank frames.
        resized.extend([threading.current_thread().name] * bool(frame.any()))
        return to_input(self, frame)

    monkeypatch.setattr(NetworkInput, "__call__", counted)
    hook = model.backbone.register_forward_pre_hook(
        lambda backbone, images: encoded.append(len(images[0]))
    )
    try:
        run(model, source, tmp_path / "out", "TEST.VIDEO.POSTPROCESS", postprocess, draw=True)
    finally:
        hook.remove()
    assert source.decoded == 6 * times
    assert resized == ["read ahead"] * 6
    assert len(read_video(tmp_path / "out" / "annotated.webm")) == 6


def test_a_video_that_goes_on_is_drawn_from_its_start(model, tmp_path):
    write_frames(tmp_path / "clip", make_frames(6))
    source = FolderSource(tmp_path / "clip")
    run(model, source, tmp_path / "whole", draw=True)
    run(model, source, tmp_path / "parts", draw=True, stop=after(3))
    assert len(read_video(tmp_path / "parts" / "annotated.webm")) == 3
    run(model, source, tmp_path / "parts", draw=True)
    parts, whole = (read_video(tmp_path / k / "annotated.webm") for k in ("parts", "whole"))
    np.testing.assert_array_equal(parts, whole)


def test_a_video_that_cannot_be_written_ends_before_the_first_frame(model, clip, tmp_path):
    """MPEG-4 in a folder that is a file's name, a codec that is not there: known at once."""
    cfg = tiny_cfg(*SIZES)
    predictor = VideoPredictor(cfg, model)
    plan = VideoRun(tmp_path / "out", drawing=DrawingStyle(codec="h264"), progress=False)
    if cv2.VideoWriter(
        str(tmp_path / "x.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"avc1"), 25.0, (64, 64)
    ).isOpened():
        pytest.skip("this OpenCV has an encoder of H.264, so that the codec can be written")
    with pytest.raises(OSError, match=r"annotated\.mp4: OpenCV cannot open a \.mp4 file"):
        predict_video(cfg, predictor, FolderSource(clip), plan, report=lambda _: None)
    assert len((tmp_path / "out" / JOURNAL).read_text().splitlines()) == 1


def test_frames_of_an_impossible_shape_are_named(model, tmp_path):
    write_frames(tmp_path / "clip", [np.zeros((1, 2000, 3), np.uint8)] * 2)
    with pytest.raises(ValueError, match=r"frame 0 of clip \(2000x1 pixels\): "):
        run(model, FolderSource(tmp_path / "clip"), tmp_path / "out")
