"""Several videos at once: each as if it were alone, whatever the others are and do."""

import threading

import numpy as np
import pytest
import torch
from toy_models import build, tiny_cfg
from video_runs import SIZES, make_frames, make_model, spread_scores

from iff_detectron2.engine import MultiVideoPredictor, VideoError, VideoPredictor, frame_detector

RESET = ("TEST.VIDEO.ON_SIZE_CHANGE", "reset")


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def videos():
    """Of other lengths and sizes; one ends early, one is one frame long, one is empty."""
    return {
        "long": make_frames(9, seed=1),
        "early": make_frames(4, seed=2),
        "upright": make_frames(6, 72, 48, seed=3),
        "one": make_frames(1, seed=4),
        "empty": [],
    }


def cfg_of(*opts):
    return tiny_cfg(*SIZES, *opts)


def run_alone(cfg, model, videos):
    """Return the oracle: each video through a predictor of its own."""
    return {
        (name, index): (frame, instances)
        for name, frames in videos.items()
        for index, frame, instances in VideoPredictor(cfg, model)(frames)
    }


def assert_same(a, b, *, exactly=False):
    assert len(a) == len(b) > 0
    assert a.image_size == b.image_size
    assert a.pred_classes.tolist() == b.pred_classes.tolist()
    for one, other, bound in (
        (a.scores, b.scores, 1e-5),
        (a.pred_boxes.tensor, b.pred_boxes.tensor, 1e-3),
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=0 if exactly else bound)


def assert_as_alone(found, expected, *, exactly=False):
    """Compare (video, index, frame, instances) with each video alone, each in its order."""
    found = list(found)
    keys = [(name, index) for name, index, _, _ in found]
    assert sorted(keys) == sorted(expected)
    for name in {name for name, _ in keys}:
        indices = [index for video, index in keys if video == name]
        assert indices == sorted(indices)
    for name, index, frame, instances in found:
        own, alone = expected[name, index]
        assert frame is own
        assert_same(instances, alone, exactly=exactly)


@pytest.mark.parametrize("causal", [False, True])
def test_each_video_is_as_if_it_were_alone(model, videos, causal):
    cfg = cfg_of("TEST.VIDEO.CAUSAL", causal)
    found = MultiVideoPredictor(cfg, model)(videos)
    assert_as_alone(found, run_alone(cfg, model, videos))


def test_one_video_at_a_time_gives_the_very_numbers(model, videos):
    cfg = cfg_of("TEST.VIDEO.CAUSAL", False)
    found = MultiVideoPredictor(cfg, model)(videos, at_once=1)
    assert_as_alone(found, run_alone(cfg, model, videos), exactly=True)


def test_other_videos_begin_where_one_ends(model, videos, monkeypatch):
    cfg = cfg_of()
    predictor = MultiVideoPredictor(cfg, model)
    running = []
    advance = predictor._advance

    def spy(frames, *rest, **options):
        running.append(tuple(frames))
        return advance(frames, *rest, **options)

    monkeypatch.setattr(predictor, "_advance", spy)
    assert_as_alone(predictor(videos, at_once=2), run_alone(cfg, model, videos))
    assert running[0] == ("long", "early")
    assert ("long", "upright") in running
    assert max(map(len, running)) == 2
    assert predictor.videos == ()


def test_plain_detectors_and_chunks_and_small_memories(model, videos):
    plain_cfg = tiny_cfg(*SIZES, config="MovingShapes/rfcn.yaml")
    plain = build(plain_cfg)
    spread_scores(plain)
    assert_as_alone(
        MultiVideoPredictor(plain_cfg, plain)(videos), run_alone(plain_cfg, plain, videos)
    )
    cfg = cfg_of("TEST.VIDEO.PAIRS_PER_CHUNK", 3, "TEST.VIDEO.STRIDE", 2)
    assert_as_alone(MultiVideoPredictor(cfg, model)(videos), run_alone(cfg, model, videos))


def test_frames_of_one_size_share_their_batches(model, videos):
    seen, heads = [], []
    hooks = [
        model.backbone.stem.register_forward_hook(lambda m, a, out: seen.append(len(out))),
        model.proposal_generator.register_forward_pre_hook(lambda m, a: heads.append(len(a[0]))),
    ]
    same = {name: make_frames(6, seed=seed) for seed, name in enumerate("abc")}
    list(MultiVideoPredictor(cfg_of(), model)(same))
    # Two frames of look-ahead: at first they are only encoded, at last only detected in.
    assert seen == [3] * 6
    assert heads == [3] * 6
    seen.clear()
    heads.clear()
    list(MultiVideoPredictor(cfg_of(), model)({**same, "upright": videos["upright"]}))
    for hook in hooks:
        hook.remove()
    assert sorted(seen) == sorted(heads) == [1] * 6 + [3] * 6


def test_live_videos_come_and_go(model):
    clips = {name: make_frames(7, seed=seed) for seed, name in enumerate("abc", 5)}
    expected = run_alone(cfg_of(), model, clips)
    predictor = MultiVideoPredictor(cfg_of(), model)
    results = {name: [] for name in clips}
    # b begins two frames later than a, and misses every third round; c comes when a has ended.
    position = dict.fromkeys(clips, 0)
    for round_number in range(20):
        ready = {}
        for name, begins in (("a", 0), ("b", 2), ("c", 8)):
            late = name == "b" and round_number % 3 == 0
            if round_number >= begins and not late and position[name] < 7:
                ready[name] = clips[name][position[name]]
                position[name] += 1
        pushed = predictor.push(ready)
        assert pushed.keys() == ready.keys()
        for name, found in pushed.items():
            results[name] += found
        if round_number == 7:
            results["a"] += predictor.flush("a")["a"]
            assert predictor.videos == ("b",)
    for name, found in predictor.flush().items():
        results[name] += found
    assert predictor.videos == ()
    for name, found in results.items():
        assert [index for index, _ in found] == list(range(7))
        for index, instances in found:
            assert_same(instances, expected[name, index][1])


def test_a_change_of_size_in_one_video_ends_its_windows_alone(model):
    changing = [*make_frames(4, seed=1), *make_frames(5, 72, 48, seed=2)]
    clips = {"changing": changing, "steady": make_frames(9, seed=3)}
    cfg = cfg_of(*RESET)
    assert_as_alone(MultiVideoPredictor(cfg, model)(clips), run_alone(cfg, model, clips))


def test_errors_name_their_video_and_leave_all_as_they_were(model):
    clips = {name: make_frames(6, seed=seed) for seed, name in enumerate("ab")}
    expected = run_alone(cfg_of(), model, clips)
    predictor = MultiVideoPredictor(cfg_of(), model)
    results = {"a": [], "b": []}
    for t in range(6):
        frames = {name: clip[t] for name, clip in clips.items()}
        if t == 3:
            with pytest.raises(ValueError, match=r"frame 3 of video 'b' is 48x72 .* 72x48"):
                predictor.push({**frames, "b": np.zeros((72, 48, 3), np.uint8)})
            with pytest.raises(TypeError, match=r"frame 0 of video 'c' must be uint8"):
                predictor.push({**frames, "c": np.zeros((4, 4, 3))})
            assert predictor.videos == ("a", "b")
        for name, found in predictor.push(frames).items():
            results[name] += found
    with pytest.raises(ValueError, match="no video 'z' is running, but 'a', 'b'"):
        predictor.flush("z")
    for name, found in predictor.flush("a", "b").items():
        for index, instances in results[name] + found:
            assert_same(instances, expected[name, index][1])


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize(
    ("part", "at"),
    [
        # Before the first result, of frame 2, there is nothing but the backbone that could fail.
        *[("backbone.stem", 0), ("backbone.stem", 3), ("roi_heads", 2), ("roi_heads", 3)],
        *[("temporal.aggregators.reduction", 2), ("temporal.aggregators.reduction", 3)],
    ],
)
@pytest.mark.parametrize("after", [0, 1])
def test_a_failure_takes_all_videos_back(model, monkeypatch, part, at, after):
    """Also where the batch of another size was done before it."""
    clips = {
        "a": make_frames(6, seed=1),
        "b": make_frames(6, seed=2),
        "other size": make_frames(6, 72, 48, seed=3),
    }
    expected = run_alone(cfg_of(), model, clips)
    predictor = MultiVideoPredictor(cfg_of(), model)
    module = model.get_submodule(part)
    results = {name: [] for name in clips}
    calls = []

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) > after:
            raise Interrupted
        return type(module).forward(module, *args, **kwargs)

    for t in range(6):
        frames = {name: clip[t] for name, clip in clips.items()}
        if t == at:
            with monkeypatch.context() as patch:
                patch.setattr(module, "forward", fail)
                with pytest.raises(Interrupted):
                    predictor.push(frames)
            assert len(predictor.videos) == (3 if t else 0)
        for name, found in predictor.push(frames).items():
            results[name] += found
    for name, found in predictor.flush().items():
        results[name] += found
        assert [index for index, _ in results[name]] == list(range(6))
        for index, instances in results[name]:
            assert_same(instances, expected[name, index][1])


def test_what_cannot_be_read_names_its_video_behind_the_results_before_it(model):
    frames = make_frames(6)
    error = OSError("the disk is gone")

    def broken():
        yield from frames[:5]
        raise error

    seen = []
    predictor = MultiVideoPredictor(cfg_of(), model)
    with pytest.raises(VideoError, match="video 'bad': the disk is gone") as caught:  # noqa: PT012
        for name, index, _, _ in predictor({"good": frames, "bad": broken()}):
            seen.append((name, index))
    assert caught.value.video == "bad"
    assert caught.value.__cause__ is error
    assert seen == [(name, t) for t in range(3) for name in ("good", "bad")]
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]
    with pytest.raises(VideoError, match="video 'x': frame 1 must be uint8"):
        list(predictor({"x": [frames[0], frames[1].astype(float)]}))
    with pytest.raises(ValueError, match="at_once must be a number of videos"):
        list(predictor({"x": frames}, at_once=-1))


def test_two_loops_over_one_predictor_are_an_error(model):
    predictor = MultiVideoPredictor(cfg_of("TEST.VIDEO.CAUSAL", True), model)
    first = predictor({"a": make_frames(3)})
    next(first)
    next(predictor({"a": make_frames(3, seed=1)}))
    with pytest.raises(RuntimeError, match="use one predictor for each"):
        next(first)


@pytest.mark.parametrize("causal", [False, True])
def test_results_that_are_handed_out_late_are_the_same(model, videos, monkeypatch, causal):
    """Late is what a GPU gives them; here the CPU is told to."""
    cfg = cfg_of("TEST.VIDEO.CAUSAL", causal)
    expected = run_alone(cfg, model, videos)
    monkeypatch.setitem(frame_detector._LATE, "cpu", 1)
    assert_as_alone(MultiVideoPredictor(cfg, model)(videos), expected)


def test_all_that_a_detector_gives(model):
    frames = make_frames(3)
    predictor = MultiVideoPredictor(cfg_of(), model)
    expected = [output for _, _, output in VideoPredictor(cfg_of(), model).outputs(frames)]
    for name, index, _, output in predictor.outputs({"v": frames}):
        assert name == "v"
        assert_same(output["instances"], expected[index]["instances"], exactly=True)
    pushed = [predictor.push_outputs({"v": frame})["v"] for frame in frames]
    rest = predictor.flush_outputs()["v"]
    assert [index for found in (*pushed, rest) for index, _ in found] == [0, 1, 2]
    assert rest[0][1].keys() == {"instances"}


def test_the_plan_counts_the_streams(model):
    predictor = MultiVideoPredictor(cfg_of(), model)
    one, three = predictor.plan(48, 72), predictor.plan(48, 72, streams=3)
    assert (three.memory, three.working) == (3 * one.memory, 3 * one.working)
    assert three.weights == one.weights
    frames = {number: make_frames(1, seed=number)[0] for number in range(3)}
    for _ in range(6):
        predictor.push(frames)
    held = sum(stream.memory.nbytes() for stream in predictor._videos.values())
    assert held == three.memory
    room = (one.on_device + three.on_device) / 2 / 2**30
    small = MultiVideoPredictor(cfg_of("TEST.VIDEO.MEMORY_LIMIT", room), model)
    small.check_memory(48, 72)
    with pytest.raises(ValueError, match=r"it would fit with .*one stream at a time"):
        small.check_memory(48, 72, streams=3)
