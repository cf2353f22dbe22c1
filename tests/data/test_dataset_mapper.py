from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from iff_detectron2.data import VIDDatasetMapper, listed_frames, register_imagenet_vid
from iff_detectron2.data.dataset_mapper import draw_refs, new_window_frames
from iff_detectron2.structures import TemporalWindow

pytestmark = pytest.mark.usefixtures("clean_catalogs")

JPEG_TOLERANCE = 2


@pytest.fixture
def make_mapper(tiny_vid):
    """Return a tiny dataset's dicts and a mapper for it."""

    def make(image_set: str = "VID_train_15frames", is_train: bool = True, **kwargs):
        register_imagenet_vid("tiny", tiny_vid.root, image_set)
        dicts = DatasetCatalog.get("tiny")
        if kwargs.get("streaming"):
            kwargs["listed_frames"] = listed_frames(dicts)
        arguments = {
            "augmentations": [],
            "image_format": "RGB",
            "frame_index": MetadataCatalog.get("tiny").frame_index(),
            "dataset_names": ("tiny",),
        }
        return VIDDatasetMapper(is_train=is_train, **{**arguments, **kwargs}), dicts

    return make


def _assert_close(image: torch.Tensor, pixels: np.ndarray) -> None:
    difference = image.permute(1, 2, 0).numpy().astype(int) - pixels.astype(int)
    assert image.shape[1:] == pixels.shape[:2]
    assert np.abs(difference).max() <= JPEG_TOLERANCE


def test_training_sample(tiny_vid, make_mapper) -> None:
    tiny_vid(lengths=(30,))
    mapper, dicts = make_mapper(num_refs=3, max_offset=4)
    before = copy.deepcopy(dicts[12])
    sample = mapper(dicts[12])
    assert dicts[12] == before
    assert sample["image"].dtype == torch.uint8
    assert sample["image"].shape == (3, 48, 64)
    assert {k: sample[k] for k in ("video_id", "frame_index", "video_length", "image_id")} == {
        "video_id": "train/video_0",
        "frame_index": 12,
        "video_length": 30,
        "image_id": 13,
    }
    assert "annotations" not in sample
    assert sample["instances"].gt_boxes.tensor.tolist() == [list(tiny_vid.box(0, 12))]
    assert sample["instances"].gt_classes.tolist() == [8]
    _assert_close(sample["image"], tiny_vid.pixels(0, 12))
    assert len(set(sample["ref_offsets"])) == 3
    for ref, offset in zip(sample["ref_images"], sample["ref_offsets"], strict=True):
        assert 1 <= abs(offset) <= 4
        _assert_close(ref, tiny_vid.pixels(0, 12 + offset))


def test_flip_moves_boxes_and_all_frames(tiny_vid, make_mapper) -> None:
    tiny_vid(lengths=(6,))
    mapper, dicts = make_mapper(augmentations=[T.RandomFlip(prob=1.0)], num_refs=4)
    sample = mapper(dicts[2])
    x1, y1, x2, y2 = tiny_vid.box(0, 2)
    assert sample["instances"].gt_boxes.tensor.tolist() == [[64 - x2, y1, 64 - x1, y2]]
    _assert_close(sample["image"], tiny_vid.pixels(0, 2)[:, ::-1])
    for ref, offset in zip(sample["ref_images"], sample["ref_offsets"], strict=True):
        _assert_close(ref, tiny_vid.pixels(0, 2 + offset)[:, ::-1])


def test_one_random_crop_for_the_clip(tiny_vid, make_mapper) -> None:
    tiny_vid(lengths=(8,))
    crop = T.RandomCrop("absolute", (40, 32))
    mapper, dicts = make_mapper(augmentations=[crop, T.RandomFlip()], num_refs=5)
    np.random.seed(0)  # noqa: NPY002 - Detectron2 draws from the global generator
    starts = set()
    for _ in range(12):
        sample = mapper(dicts[3])
        columns = sample["image"][1].float().mean(0)
        starts.add(round(columns.min().item() / 2))
        for ref in sample["ref_images"]:
            assert ref.shape == sample["image"].shape == (3, 40, 32)
            assert torch.allclose(ref[1].float().mean(0), columns, atol=JPEG_TOLERANCE)
    assert len(starts) > 3  # the crop does move from clip to clip


def test_boxes_are_clipped_and_empty_ones_removed_by_the_crop(tiny_vid, make_mapper) -> None:
    tiny_vid(lengths=(3,))
    folder = tiny_vid.root / "Annotations/VID/train/video_0"
    tiny_vid.write_xml(
        folder / "000000.xml",
        (64, 48),
        [("n02084071", 0, (20, 10, 50, 40)), ("n02084071", 1, (40, 10, 60, 40))],
    )
    mapper, dicts = make_mapper(augmentations=[T.CropTransform(0, 0, 32, 48)])
    assert mapper(dicts[0])["instances"].gt_boxes.tensor.tolist() == [[20, 10, 32, 40]]


def test_crowd_annotations_are_left_out(tiny_vid, make_mapper) -> None:
    tiny_vid(lengths=(2,))
    mapper, dicts = make_mapper()
    dicts[0]["annotations"] = [{**dicts[0]["annotations"][0], "iscrowd": 1}]
    assert len(mapper(dicts[0])["instances"]) == 0


def test_still_is_its_own_ref(tiny_vid, make_mapper) -> None:
    tiny_vid(stills=1)
    mapper, dicts = make_mapper("DET_train_30classes", num_refs=2)
    sample = mapper(dicts[0])
    assert sample["ref_offsets"] == [0, 0]
    assert all(torch.equal(ref, sample["image"]) for ref in sample["ref_images"])


@pytest.mark.parametrize(("streaming", "offsets"), [(False, [0, 0, 0, 0]), (True, [])])
def test_still_in_testing(tiny_vid, make_mapper, streaming: bool, offsets: list[int]) -> None:
    tiny_vid(stills=1)
    mapper, dicts = make_mapper(
        "DET_train_30classes", is_train=False, streaming=streaming, window=TemporalWindow(4)
    )
    sample = mapper(dicts[0])
    assert sample["ref_offsets"] == offsets
    assert len(sample["ref_images"]) == len(offsets)


def test_one_frame_video(tiny_vid, make_mapper) -> None:
    tiny_vid(lengths=(1,))
    mapper, dicts = make_mapper(num_refs=2)
    sample = mapper(dicts[0])
    assert sample["ref_offsets"] == [0, 0]
    assert all(torch.equal(ref, sample["image"]) for ref in sample["ref_images"])


def test_without_refs(tiny_vid, make_mapper) -> None:
    tiny_vid(lengths=(3,))
    mapper, dicts = make_mapper(num_refs=0)
    assert mapper(dicts[1])["ref_images"] == []


def test_window_of_testing(tiny_vid, make_mapper) -> None:
    tiny_vid(lengths=(4,))
    mapper, dicts = make_mapper("VID_val_videos", is_train=False, window=TemporalWindow(4))
    sample = mapper(dicts[1])
    assert sample["ref_offsets"] == [-1, -1, 1, 2]
    assert "instances" not in sample
    assert "annotations" not in sample
    for ref, offset in zip(sample["ref_images"], sample["ref_offsets"], strict=True):
        _assert_close(ref, tiny_vid.pixels(0, 1 + offset))


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize(
    "window", [TemporalWindow(4), TemporalWindow(4, stride=3), TemporalWindow(3, causal=True)]
)
def test_streaming_sends_what_the_windows_before_lacked(
    tiny_vid, make_mapper, every: int, window: TemporalWindow
) -> None:
    """A plain model of the receiver: it keeps frames until a window lies behind them, and must find
    the new window."""
    lengths = (9, 1, 2)
    tiny_vid(lengths=lengths, every=every)
    mapper, dicts = make_mapper(is_train=False, streaming=True, window=window)
    memory: set[int] = set()
    video = None
    for sample in map(mapper, dicts):
        t, length = sample["frame_index"], sample["video_length"]
        if sample["video_id"] != video:
            memory, video = set(), sample["video_id"]
        received = [t + offset for offset in sample["ref_offsets"]]
        assert received == sorted(set(received))
        assert t not in received
        needed = {min(max(t + offset, 0), length - 1) for offset in window.offsets} | {t}
        assert not memory & set(received)  # nothing is sent twice
        assert set(received) <= needed
        assert memory | set(received) | {t} >= needed
        memory = {frame for frame in memory | {t, *received} if frame >= min(needed)}
        for ref, frame in zip(sample["ref_images"], received, strict=True):
            _assert_close(ref, tiny_vid.pixels(int(video[-1]), frame))


def test_streaming_by_hand() -> None:
    window = TemporalWindow(4)
    assert new_window_frames(window, 0, [], 10) == [1, 2]
    assert new_window_frames(window, 1, [0], 10) == [3]
    assert new_window_frames(window, 5, [0], 10) == [3, 4, 6, 7]
    assert new_window_frames(window, 9, range(9), 10) == []
    assert new_window_frames(TemporalWindow(2, stride=2), 4, [3], 10) == [2, 6]
    # Frame 2 was a reference frame of frame 0, and is still in the memory.
    assert new_window_frames(TemporalWindow(2, stride=2), 4, [0, 1, 2, 3], 10) == [6]


def test_draws_cover_the_range_evenly_without_the_key_frame() -> None:
    np.random.seed(1)  # noqa: NPY002
    counts = Counter(frame for _ in range(4000) for frame in draw_refs(12, 100, 2, 10))
    assert set(counts) == set(range(2, 23)) - {12}
    assert min(counts.values()) > 300  # 400 expected
    counts = Counter(frame for _ in range(500) for frame in draw_refs(1, 4, 2, 10))
    assert set(counts) == {0, 2, 3}


@pytest.mark.parametrize(("length", "num_refs", "distinct"), [(3, 2, 2), (3, 4, 2), (2, 3, 1)])
def test_draws_without_replacement_where_possible(length, num_refs, distinct) -> None:
    drawn = [draw_refs(1, length, num_refs, 10) for _ in range(200)]
    assert all(len(d) == num_refs and 1 not in d for d in drawn)
    assert max(len(set(d)) for d in drawn) == distinct
    if num_refs <= length - 1:
        assert all(len(set(d)) == num_refs for d in drawn)


def test_draws_repeat_with_the_seed() -> None:
    draws = []
    for _ in range(2):
        np.random.seed(5)  # noqa: NPY002
        draws.append([draw_refs(50, 100, 2, 10) for _ in range(20)])
    assert draws[0] == draws[1]


def _frame(root: Path, number: int) -> Path:
    return root / f"Data/VID/train/video_0/{number:06d}.JPEG"


@pytest.mark.parametrize("number", [1, 0])  # the key frame, a neighbour
def test_missing_image(tiny_vid, make_mapper, number: int) -> None:
    root = tiny_vid(lengths=(2,))
    mapper, dicts = make_mapper()
    _frame(root, number).unlink()
    with pytest.raises(FileNotFoundError, match=rf"00000{number}\.JPEG of tiny does not exist"):
        mapper(dicts[1])


@pytest.mark.parametrize("number", [1, 0])
@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_truncated_image(tiny_vid, make_mapper, number: int, keep: float) -> None:
    root = tiny_vid(lengths=(2,))
    mapper, dicts = make_mapper()
    path = _frame(root, number)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(OSError, match=rf"00000{number}\.JPEG of tiny cannot be read"):
        mapper(dicts[1])


@pytest.mark.parametrize(
    ("number", "message"),
    [(0, "000000.JPEG is 32x48 pixels and its key frame .*000001.JPEG 64x48"), (1, "000001.JPEG")],
)
def test_frames_of_another_size(tiny_vid, make_mapper, number: int, message: str) -> None:
    root = tiny_vid(lengths=(2,))
    mapper, dicts = make_mapper()
    Image.new("RGB", (32, 48)).save(_frame(root, number))
    with pytest.raises(ValueError, match=message):
        mapper(dicts[1])


def test_dict_and_index_must_agree(tiny_vid, make_mapper) -> None:
    tiny_vid(lengths=(3,))
    mapper, dicts = make_mapper()
    with pytest.raises(ValueError, match=r"frame 2 of video .* should be .*000001\.JPEG, but"):
        mapper({**dicts[1], "frame_index": 2})
    with pytest.raises(ValueError, match=r"frame 3 of video .* outside its 3 frames"):
        mapper({**dicts[1], "frame_index": 3})
    with pytest.raises(ValueError, match=r"video 'other' of .* is not in the frame index"):
        mapper({**dicts[1], "video_id": "other"})


def test_streaming_wants_listed_frames(tiny_vid, make_mapper) -> None:
    tiny_vid(lengths=(3,), every=2)
    mapper, dicts = make_mapper(is_train=False, streaming=True)
    unlisted = {**dicts[0], "frame_index": 1, "file_name": str(_frame(tiny_vid.root, 1))}
    with pytest.raises(ValueError, match=r"frame 1 of video .* is not among the listed frames"):
        mapper(unlisted)
    with pytest.raises(ValueError, match="streaming needs the listed frames"):
        VIDDatasetMapper(
            is_train=False, augmentations=[], image_format="RGB", frame_index={}, streaming=True
        )


@pytest.mark.parametrize("kwargs", [{"num_refs": -1}, {"max_offset": -1}])
def test_bad_arguments(kwargs) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        VIDDatasetMapper(
            is_train=True, augmentations=[], image_format="RGB", frame_index={}, **kwargs
        )


def test_tracks_of_key_and_reference_frames(tiny_vid, make_mapper) -> None:
    """Boxes by track id go through the transforms of the clip, like the images."""
    tiny_vid(lengths=(6,))
    mapper, dicts = make_mapper(augmentations=[T.RandomFlip(prob=1.0)], num_refs=4)
    assert "tracks" not in mapper(dicts[2])
    mapper.annotations_of = {d["file_name"]: d["annotations"] for d in dicts[:4]}
    sample = mapper(dicts[2])
    (track,) = sample["tracks"][0]
    for offset, boxes in zip([0, *sample["ref_offsets"]], sample["tracks"], strict=True):
        if 2 + offset >= 4:  # not listed: nothing is known
            assert boxes == {}
            continue
        x1, y1, x2, y2 = tiny_vid.box(0, 2 + offset)
        assert boxes[track].tolist() == [64 - x2, y1, 64 - x1, y2]
