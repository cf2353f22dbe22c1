"""Seq-NMS: cases by hand, and equality with the plain twin on random videos."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from iff_detectron2 import postprocessing
from iff_detectron2.postprocessing import (
    NO_TRACK,
    SeqNMSOptions,
    rescore_detections,
    seq_nms,
)

from .plain_seq_nms import plain_seq_nms
from .random_videos import random_video, to_detections

RESCORINGS = ("mean", "max", "mean_max")
VARIANTS = ("seq_nms", "seq_nms_plus")


def make_instances(boxes=(), scores=(), classes=None):
    return Instances(
        (100, 200),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores, dtype=torch.float32),
        pred_classes=torch.tensor(
            [0] * len(scores) if classes is None else classes, dtype=torch.int64
        ),
    )


def as_set(detections):
    return sorted((d["frame"], d["class"], d["box"], d["score"], d["track"]) for d in detections)


def run_fast(detections, variant, rescore=None, **options):
    rescored, rows = rescore_detections(
        to_detections(detections), SeqNMSOptions(variant, rescore=rescore, **options)
    )
    return [
        {**detections[row], "score": score, "track": track}
        for row, score, track in zip(
            rows.tolist(), rescored.scores.tolist(), rescored.track_ids.tolist(), strict=True
        )
    ]


videos = st.builds(
    random_video,
    seed=st.integers(0, 2**32 - 1),
    num_frames=st.integers(1, 12),
    num_tracks=st.integers(0, 6),
    num_classes=st.integers(1, 3),
    clutter=st.integers(0, 5),
    grid=st.sampled_from([1, 4]),
    levels=st.sampled_from([0, 1, 2, 6, 20]),
)


@settings(max_examples=300, deadline=None)
@given(
    detections=videos,
    variant=st.sampled_from(VARIANTS),
    rescore=st.sampled_from(RESCORINGS),
    link_iou=st.sampled_from([0.2, 0.5, 0.7]),
    nms_iou=st.sampled_from([0.3, 0.5]),
    min_path_score=st.sampled_from([1e-2, 0.5, 2.0]),
)
def test_equals_the_plain_twin(detections, variant, rescore, link_iou, nms_iou, min_path_score):
    options = {"link_iou": link_iou, "nms_iou": nms_iou, "min_path_score": min_path_score}
    expected = plain_seq_nms(detections, variant, rescore, **options)
    assert as_set(run_fast(detections, variant, rescore, **options)) == as_set(expected)


@settings(max_examples=50, deadline=None)
@given(detections=videos, variant=st.sampled_from(VARIANTS), rescore=st.sampled_from(RESCORINGS))
def test_moves_no_box_and_keeps_scores_in_range(detections, variant, rescore):
    given = to_detections(detections)
    rescored, rows = rescore_detections(given, SeqNMSOptions(variant, rescore=rescore))
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rescored.boxes, given.boxes[rows])
    assert ((rescored.scores >= 0) & (rescored.scores <= 1)).all()
    untracked = rescored.track_ids == NO_TRACK
    np.testing.assert_array_equal(rescored.scores[untracked], given.scores[rows[untracked]])
    # A track has one class, and one box in each of a run of frames without a gap.
    for track in range(1, rescored.track_ids.max(initial=0) + 1):
        part = rescored[rescored.track_ids == track]
        assert len(part) > 1
        assert len(set(part.classes)) == 1
        assert len(set(part.scores)) == 1
        frames = sorted(part.frames)
        assert frames == list(range(frames[0], frames[0] + len(part)))


@settings(max_examples=100, deadline=None)
@given(detections=videos, variant=st.sampled_from(VARIANTS), seed=st.integers(0, 100))
def test_order_of_boxes_does_not_matter(detections, variant, seed):
    shuffled = list(detections)
    np.random.default_rng(seed).shuffle(shuffled)
    assert as_set(run_fast(shuffled, variant)) == as_set(run_fast(detections, variant))


def test_rescoring_by_hand():
    """Two objects and a lone box; IoUs and scores worked out by hand."""
    video = [
        # The first box is 10 x 10 pixels. Moved by 3 it overlaps itself by 7 / 13, over 0.5; by 4
        # only by 6 / 14.
        make_instances([[0, 0, 9, 9], [50, 0, 59, 9]], [0.9, 0.2]),
        make_instances([[3, 0, 12, 9], [54, 0, 63, 9]], [0.3, 0.4]),
        make_instances([[6, 0, 15, 9]], [0.6]),
    ]
    mean = (0.9 + 0.3 + 0.6) / 3
    for variant, rescore, expected in (
        ("seq_nms", None, mean),
        ("seq_nms", "max", 0.9),
        ("seq_nms_plus", None, 0.5 * mean + 0.45),
        ("seq_nms_plus", "mean", mean),
        ("seq_nms", "mean_max", 0.5 * mean + 0.45),
    ):
        result = seq_nms(video, variant, rescore=rescore)
        assert [len(instances) for instances in result] == [2, 2, 1]
        assert [i.scores[0].item() for i in result] == pytest.approx([expected] * 3)
        assert [i.track_ids[0].item() for i in result] == [1, 1, 1]
        assert [result[t].scores[1].item() for t in (0, 1)] == pytest.approx([0.2, 0.4])
        assert [result[t].track_ids[1].item() for t in (0, 1)] == [NO_TRACK, NO_TRACK]
    assert [i.scores.tolist() for i in video] == [
        pytest.approx([0.9, 0.2]), pytest.approx([0.3, 0.4]), pytest.approx([0.6])
    ]  # fmt: skip


def test_each_variant_has_its_own_rescoring():
    """E1: without `rescore`, seq_nms takes the mean (FGFA), seq_nms_plus half mean, half max."""
    video = [make_instances([[0, 0, 9, 9]], [score]) for score in (0.9, 0.3, 0.6)]
    for variant, expected in (("seq_nms", 0.6), ("seq_nms_plus", 0.75)):
        assert [i.scores.item() for i in seq_nms(video, variant)] == pytest.approx([expected] * 3)


def test_thresholds_are_inclusive():
    """Boxes of 15 x 1 pixels moved by 5 have IoU 10 / 20; one of 3 in 10 pixels has 0.3."""
    first, moved = [0, 0, 14, 0.5], [5, 0, 19, 0.5]
    linked = seq_nms([make_instances([first], [0.5]), make_instances([moved], [0.7])])
    assert [i.track_ids.tolist() for i in linked] == [[1], [1]]
    apart = seq_nms(
        [make_instances([first], [0.5]), make_instances([moved], [0.7])], link_iou=0.501
    )
    assert [i.track_ids.tolist() for i in apart] == [[NO_TRACK], [NO_TRACK]]
    # 30 of 100 pixels: suppressed by a path, but not by ordinary NMS, which wants more.
    large, inside = [0, 0, 9, 9], [0, 0, 9, 2]
    one = [make_instances([large, inside], [0.9, 0.8])]
    assert [len(seq_nms(one, v)[0]) for v in VARIANTS] == [2, 2]
    two = [*one, make_instances([large], [0.9])]
    assert [len(seq_nms(two, v)[0]) for v in VARIANTS] == [1, 1]


def test_a_long_track_of_low_scores_wins_over_a_high_one():
    """The path with the larger sum suppresses a box with a higher score of its own."""
    steady, rival = [0, 0, 9, 9], [4, 0, 13, 9]  # IoU 6 / 14
    video = [make_instances([steady, rival] if t == 2 else [steady], [0.4, 0.9][: 1 + (t == 2)])
             for t in range(5)]  # fmt: skip
    plain = seq_nms(video, "seq_nms")
    assert [i.scores.tolist() for i in plain] == [[pytest.approx(0.4)]] * 5
    # In Seq-NMS+ per-frame NMS comes first, and cuts the track at its middle.
    plus = seq_nms(video, "seq_nms_plus")
    assert plus[2].pred_boxes.tensor.tolist() == [rival]
    assert [i.track_ids.tolist() for i in plus] == [[1], [1], [NO_TRACK], [2], [2]]


def test_later_tracks_are_rescored_after_a_single_box():
    """A round whose best path is one box does not end the rounds; the sum of 1e-2 does."""
    video = [
        make_instances([[0, 0, 9, 9], [50, 50, 59, 59]], [0.2, 0.9]),
        make_instances([[0, 0, 9, 9], [80, 0, 89, 9]], [0.4, 0.004]),
        make_instances([[80, 0, 89, 9]], [0.005]),
    ]
    first, second, third = seq_nms(video, "seq_nms", rescore="mean")
    assert first.scores.tolist() == pytest.approx([0.3, 0.9])
    assert second.scores.tolist() == pytest.approx([0.3, 0.004])
    assert third.scores.tolist() == pytest.approx([0.005])
    assert third.track_ids.tolist() == [NO_TRACK]
    _, second, third = seq_nms(video, "seq_nms", rescore="mean", min_path_score=5e-3)
    assert [second.scores[1].item(), third.scores[0].item()] == pytest.approx([0.0045, 0.0045])
    assert [second.track_ids[1].item(), third.track_ids[0].item()] == [2, 2]


def test_classes_are_apart_and_ids_unique_in_a_video():
    box = [0, 0, 9, 9]
    video = [make_instances([box, box], [0.5, 0.4], [1, 0]) for _ in range(3)]
    result = seq_nms(video)
    assert [i.track_ids.tolist() for i in result] == [[2, 1]] * 3
    assert [i.pred_classes.tolist() for i in result] == [[1, 0]] * 3


def test_frames_without_boxes_cut_tracks():
    box = make_instances([[0, 0, 9, 9]], [0.5])
    result = seq_nms([box, box, make_instances(), box, box])
    assert [i.track_ids.tolist() for i in result] == [[1], [1], [], [2], [2]]
    assert seq_nms([]) == []
    assert [len(i) for i in seq_nms([make_instances()] * 3)] == [0, 0, 0]
    assert [i.track_ids.tolist() for i in seq_nms([box])] == [[NO_TRACK]]


def test_other_fields_and_order_stay():
    instances = make_instances([[50, 0, 59, 9], [0, 0, 9, 9], [1, 0, 10, 9]], [0.1, 0.8, 0.7])
    instances.set("embedding", torch.arange(3))
    first, second = seq_nms([instances, instances])
    assert first.embedding.tolist() == second.embedding.tolist() == [0, 1]
    assert first.scores.dtype == torch.float32
    assert first.track_ids.dtype == torch.int64
    assert first.image_size == (100, 200)
    assert not instances.has("track_ids")


def test_several_videos_equal_each_alone():
    parts = [random_video(seed, num_frames=6) for seed in range(5)]
    mixed = [(video, d) for video, part in enumerate(parts) for d in part]
    np.random.default_rng(0).shuffle(mixed)
    # Frame rows in an order of their own, as a dataset may have it.
    places = sorted({(d["frame"], video) for video, d in mixed})
    frames = [{"video_id": f"v{video}", "frame_index": frame} for frame, video in places]
    table = to_detections([{**d, "frame": places.index((d["frame"], video))} for video, d in mixed])
    for num_workers in (1, 3):
        rescored, rows = rescore_detections(
            table, frames=frames, num_workers=num_workers, progress=True
        )
        together = [
            (mixed[row][0], {**mixed[row][1], "score": score, "track": track})
            for row, score, track in zip(rows, rescored.scores, rescored.track_ids, strict=True)
        ]
        for video, part in enumerate(parts):
            alone = run_fast(part, "seq_nms_plus")
            assert as_set(d for v, d in together if v == video) == as_set(alone)


@pytest.mark.parametrize(
    ("box", "score", "message"),
    [
        ([0, 0, 9, 9], float("nan"), r"frame 1: detection 1: score nan is not a finite number"),
        ([0, 0, 9, 9], 1.5, r"frame 1: detection 1: score 1.5 is outside \[0, 1\]"),
        ([0, 0, 0, 9], 0.5, r"frame 1: detection 1: box .* width or height of zero or less"),
        ([9, 0, 0, 9], 0.5, r"frame 1: detection 1: box .* width or height of zero or less"),
        ([0, 0, float("inf"), 9], 0.5, r"frame 1: detection 1: box .* not a finite number"),
    ],
)
def test_unusable_detections_are_named(box, score, message):
    good = [0, 0, 9, 9]
    video = [make_instances([good] * 3, [0.5] * 3), make_instances([good, box], [0.5, score])]
    with pytest.raises(ValueError, match=message):
        seq_nms(video)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="frame 1 of 2 is missing"):
        seq_nms([make_instances(), None])
    for name, value in (
        ("variant", "seqnms"),
        ("rescore", "median"),
        ("link_iou", 0.0),
        ("nms_iou", 30),
        ("min_path_score", 0.0),
    ):
        with pytest.raises(ValueError, match=f"{name} is {value!r}"):
            seq_nms([], **{name: value})


def test_a_cache_that_cannot_be_written_does_no_harm():
    code = "import runpy, sys; runpy.run_path(sys.argv[1])"  # the file alone, without torch
    path = Path(postprocessing.__file__).with_name("compiled.py")
    # The one locator left looks for a notebook and finds none.
    environment = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "IPythonCacheLocator"}
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr


def test_missing_numba_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "iff_detectron2.postprocessing.compiled", raising=False)
    with pytest.raises(ImportError, match=r"Seq-NMS needs numba.*pip install numba"):
        seq_nms([])
