import copy
import sys
import threading
from collections import Counter

import numpy as np
import pytest
import torch
from detectron2.data import detection_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toy_models import build, tiny_cfg
from video_runs import SIZES, make_frames, make_model, spread_scores, write_frames

from iff_detectron2.data import VIDDatasetMapper, VideoIndex
from iff_detectron2.data.catalog import register_video_dataset
from iff_detectron2.engine import VideoPredictor, frame_detector
from iff_detectron2.engine.acceleration import prepare_for_inference
from iff_detectron2.layers import aggregation
from iff_detectron2.layers.pixels import join_samples
from iff_detectron2.modeling import codes, flow_estimator

LENGTHS = (1, 2, 5, 10, 11, 21, 60)


def assert_same(a, b):
    assert len(a) == len(b)
    torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=0, atol=1e-3)
    assert a.pred_classes.tolist() == b.pred_classes.tolist()


def run(predictor, frames):
    """Everything that push and flush return, as {index: instances}."""
    results = [result for frame in frames for result in predictor.push(frame)]
    results += predictor.flush()
    assert [index for index, _ in results] == list(range(len(frames)))
    return dict(results)


@pytest.fixture(scope="module")
def model():
    """Weights whose flow moves and whose scores differ, shared by all predictors of this file."""
    return make_model()


def predictor_of(model, *opts):
    return VideoPredictor(tiny_cfg(*SIZES, *opts), model)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Return a dataset of videos of all lengths on disk, and the same frames in memory."""
    folder = tmp_path_factory.mktemp("videos")
    frames = {f"v{n}": make_frames(n, seed=n) for n in LENGTHS}
    files = {
        video_id: [str(path) for path in write_frames(folder / video_id, images)]
        for video_id, images in frames.items()
    }
    dicts = [
        {
            "file_name": file,
            "image_id": f"{video_id}/{t}",
            "height": 48,
            "width": 72,
            "video_id": video_id,
            "frame_index": t,
            "video_length": len(names),
        }
        for video_id, names in files.items()
        for t, file in enumerate(names)
    ]
    register_video_dataset("predictor_videos", lambda: (dicts, VideoIndex(files)), ["thing"])
    yield frames, dicts
    from detectron2.data import DatasetCatalog, MetadataCatalog

    DatasetCatalog.remove("predictor_videos")
    MetadataCatalog.remove("predictor_videos")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("causal", "stride"), [(False, 1), (True, 1), (False, 3), (True, 2)], ids=str
)
def test_streaming_equals_offline_evaluation(model, videos, causal, stride):
    frames, dicts = videos
    if stride > 1:  # one long video more would say nothing new
        frames = {video_id: frames[video_id] for video_id in ("v1", "v2", "v11", "v21")}
        dicts = [d for d in dicts if d["video_id"] in frames]
    window = ["TEST.VIDEO.NUM_REFS", 20, "TEST.VIDEO.CAUSAL", causal, "TEST.VIDEO.STRIDE", stride]
    cfg = tiny_cfg(*SIZES, *window, "TEST.VIDEO.STREAMING", False)
    offline = build(cfg)
    offline.load_state_dict(model.state_dict())
    mapper = VIDDatasetMapper(cfg, is_train=False, dataset_names=("predictor_videos",))
    with torch.inference_mode():
        expected = {d["image_id"]: offline([mapper(d)])[0]["instances"] for d in dicts}
    assert min(len(instances) for instances in expected.values()) == 10
    for chunk in (0, 3):
        predictor = predictor_of(model, *window, "TEST.VIDEO.PAIRS_PER_CHUNK", chunk)
        assert predictor.delay == (0 if causal else 10 * stride)
        for video_id, images in frames.items():
            for t, instances in run(predictor, images).items():
                assert_same(instances, expected[f"{video_id}/{t}"])


def test_every_frame_passes_the_backbone_once_and_the_memory_is_bounded(model):
    predictor = predictor_of(model, "TEST.VIDEO.STRIDE", 2)
    seen, held = [], []
    hook = model.backbone.stem.register_forward_hook(lambda m, a, out: seen.append(len(out)))
    for frame in make_frames(30):
        predictor.push(frame)
        held.append(len(predictor.memory))
    predictor.flush()
    hook.remove()
    # Nor is there an empty pass at the end, where windows bring no new frame.
    assert seen == [1] * 30
    # Two neighbours on each side, two frames apart, and the key frame.
    assert max(held) == 9
    assert not len(predictor.memory)


class Operations(TorchDispatchMode):
    """Counts what is dispatched; one of our operators counts once, whatever it does inside.

    Attributes:
        count: operations.
        written: bytes of the tensors that they return, those of views left out.
    """

    def __init__(self):
        super().__init__()
        self.count = self.written = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        out = func(*args, **(kwargs or {}))
        given, made = (
            [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]
            for tree in ((args, kwargs), out)
        )
        lies_in = {x.untyped_storage().data_ptr() for x in given}
        self.written += sum(x.nbytes for x in made if x.untyped_storage().data_ptr() not in lies_in)
        return out


def operations_of_a_frame(*opts, config, start=lambda: None):
    """Operations of a frame in the middle of a video; `start` is called in front of it."""
    cfg = tiny_cfg(*SIZES, *opts, config=config)
    predictor = VideoPredictor(cfg, prepare_for_inference(build(cfg)))
    *before, last = make_frames(30)
    for frame in before:
        predictor.push(frame)
    start()
    with Operations() as operations:
        predictor.push(last)
    return operations


def test_a_window_of_20_adds_few_operations_to_a_frame():
    """169 once, 60 of them moves of codes to where they were, 20 splits of single frames; now 89.

    R-FCN's own, 459 then, are mostly those of its heads.
    """
    plain = operations_of_a_frame(config="MovingShapes/rfcn.yaml").count
    streaming = operations_of_a_frame(
        *("TEST.VIDEO.NUM_REFS", 20), config="MovingShapes/iff_net_C.yaml"
    ).count
    assert plain > 200
    assert streaming - plain <= 120


def test_joining_the_codes_of_a_window_is_a_small_part_of_what_a_frame_writes(monkeypatch):
    """On a CPU those of the flow alone; features and embeddings are used where they lie."""
    joined = []

    def join(parts):
        together = join_samples(parts)
        joined.append(together.nbytes)
        return together

    for module in (flow_estimator, codes, aggregation):
        monkeypatch.setattr(module, "join_samples", join)
    operations = operations_of_a_frame(
        *("TEST.VIDEO.NUM_REFS", 20), config="MovingShapes/iff_net_C.yaml", start=joined.clear
    )
    # By hand: 16 channels of 5 x 8 cells, in float32.
    assert sum(joined) == 20 * 16 * 5 * 8 * 4
    assert sum(joined) < 0.03 * operations.written


def test_results_come_as_late_as_the_window_looks_ahead(model):
    frames = make_frames(9)
    ahead, causal = predictor_of(model), predictor_of(model, "TEST.VIDEO.CAUSAL", True)
    indices = [[index for index, _ in ahead.push(frame)] for frame in frames]
    assert indices == [[], [], [0], [1], [2], [3], [4], [5], [6]]
    assert [index for index, _ in ahead.flush()] == [7, 8]
    assert [[i for i, _ in causal.push(frame)] for frame in frames] == [[t] for t in range(9)]
    assert causal.flush() == []


def test_interleaved_streams_of_one_model_do_not_mix(model):
    videos = [make_frames(9, seed=1), make_frames(9, seed=2)]
    settings = [(), ("TEST.VIDEO.CAUSAL", True)]
    alone = [run(predictor_of(model, *o), v) for o, v in zip(settings, videos, strict=True)]
    together = [predictor_of(model, *opts) for opts in settings]
    results = [{}, {}]
    for pair in zip(*videos, strict=True):
        for predictor, frame, result in zip(together, pair, results, strict=True):
            result.update(predictor.push(frame))
    for predictor, result, expected in zip(together, results, alone, strict=True):
        result.update(predictor.flush())
        assert result.keys() == expected.keys()
        for t, instances in result.items():
            assert_same(instances, expected[t])
    assert not len(model.temporal.memory)  # nor do they touch the model's own stream


def test_iteration_hands_each_frame_back_with_its_result(model):
    frames = make_frames(7)
    predictor = predictor_of(model)
    expected = run(predictor, frames)
    for t, (index, frame, instances) in enumerate(predictor(iter(frames))):
        assert index == t
        assert frame is frames[t]
        assert_same(instances, expected[t])
        assert instances.image_size == frame.shape[:2]
    assert t == 6
    assert list(predictor([])) == []


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_iteration_reads_a_few_frames_ahead_until_it_is_closed(model):
    taken, names = [], set()
    frames = make_frames(40)

    def source():
        for t, frame in enumerate(frames):
            taken.append(t)
            names.add(threading.current_thread().name)
            yield frame

    results = predictor_of(model)(source())
    next(results)
    results.close()
    # Three frames make the first window, four wait, one more is in work.
    assert 3 <= len(taken) <= 8
    assert names == {"read ahead"}
    assert not threads()


class Resizing:
    """Counts on which thread frames are made the network's input."""

    def __init__(self, predictor):
        self.threads = []
        self.own, predictor._to_input = predictor._to_input, self

    def __call__(self, frame):
        self.threads.append(threading.current_thread().name)
        return self.own(frame)


def test_iteration_resizes_each_frame_once_on_the_reading_thread(model):
    frames = make_frames(12)
    predictor = predictor_of(model, "TEST.VIDEO.NUM_REFS", 8)
    expected = run(predictor_of(model, "TEST.VIDEO.NUM_REFS", 8), frames)
    resizing = Resizing(predictor)
    for index, _, instances in predictor(frames):
        assert_same(instances, expected[index])
    assert resizing.threads == ["read ahead"] * 12


def test_errors_of_reading_come_as_they_are_behind_the_results_before_them(model):
    frames = make_frames(6)
    error = OSError("the disk is gone")

    def source():
        yield from frames
        raise error

    seen = []
    with pytest.raises(OSError, match="disk") as caught:  # noqa: PT012 - and what comes before it
        for index, _, _ in predictor_of(model)(source()):
            seen.append(index)
    assert caught.value is error
    assert seen == [0, 1, 2, 3]
    assert not threads()
    with pytest.raises(TypeError, match="frame 1 must be uint8"):
        list(predictor_of(model)([frames[0], frames[1].astype(float)]))


def test_a_frame_made_ready_elsewhere_gives_the_same(model):
    frames = make_frames(7)
    predictor = predictor_of(model)
    expected = run(predictor_of(model), frames)
    for index, instances in run(predictor, [predictor.prepare(frame) for frame in frames]).items():
        assert_same(instances, expected[index])


@pytest.mark.parametrize("causal", [False, True])
def test_results_that_are_handed_out_late_are_the_same(model, monkeypatch, causal):
    """Late is what a GPU gives them; here the CPU is told to."""
    monkeypatch.setitem(frame_detector._LATE, "cpu", 1)
    parts = [make_frames(9), make_frames(2, 64, 48, seed=1), make_frames(5, seed=2)]
    frames = [frame for part in parts for frame in part]
    opts = ("TEST.VIDEO.CAUSAL", causal, "TEST.VIDEO.ON_SIZE_CHANGE", "reset")
    expected = run(predictor_of(model, *opts), frames)
    predictor = predictor_of(model, *opts)
    got = list(predictor(frames))
    assert [index for index, _, _ in got] == list(range(16))
    for index, frame, instances in got:
        assert frame is frames[index]
        assert_same(instances, expected[index])
    predictor.reset(late=True)
    delay = (0 if causal else 2) + 1
    assert predictor.delay == delay
    pushed = [[index for index, _ in predictor.push(frame)] for frame in parts[0]]
    assert pushed == [[]] * delay + [[t] for t in range(9 - delay)]
    # A frame that fails takes nothing along that was done before it.
    fail_once(model.roi_heads, "forward")
    with pytest.raises(Interrupted):
        predictor.push(parts[0][0])
    assert [index for index, _ in predictor.flush()] == list(range(9 - delay, 9))
    assert predictor.delay == delay - 1


def test_two_loops_over_one_predictor_are_an_error(model):
    predictor = predictor_of(model, "TEST.VIDEO.CAUSAL", True)
    first = predictor(make_frames(3))
    next(first)
    next(predictor(make_frames(3, seed=1)))
    with pytest.raises(RuntimeError, match="use one predictor for each"):
        next(first)


def test_a_change_of_size_is_an_error_that_leaves_the_stream_as_it_was(model):
    frames = make_frames(6)
    expected = run(predictor_of(model), frames)
    predictor = predictor_of(model)
    results = dict(r for frame in frames[:4] for r in predictor.push(frame))
    with pytest.raises(ValueError, match=r"frame 4 is 48x72 .*72x48; .*ON_SIZE_CHANGE"):
        predictor.push(np.zeros((72, 48, 3), np.uint8))
    results.update(r for frame in frames[4:] for r in predictor.push(frame))
    results.update(predictor.flush())
    for t in range(6):
        assert_same(results[t], expected[t])


def test_a_change_of_size_can_start_anew(model):
    parts = [make_frames(5), make_frames(4, 64, 48, seed=1), make_frames(6, seed=2)]
    predictor = predictor_of(model, "TEST.VIDEO.ON_SIZE_CHANGE", "reset")
    together = run(predictor, [frame for part in parts for frame in part])
    t = 0
    for part in parts:
        for instances in run(predictor_of(model), part).values():
            assert_same(together[t], instances)
            assert together[t].image_size == part[0].shape[:2]
            t += 1


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("start", [1, 4, 13])
def test_going_on_in_the_middle_gives_the_same(model, causal, start):
    frames = make_frames(16)
    predictor = predictor_of(model, "TEST.VIDEO.CAUSAL", causal, "TEST.VIDEO.STRIDE", 2)
    expected = run(predictor, frames)
    first = predictor.replay_from(start)
    assert first == max(start - (8 if causal else 4), 0)
    predictor.reset(first, start)
    results = [r for frame in frames[first:] for r in predictor.push(frame)] + predictor.flush()
    assert [t for t, _ in results] == list(range(start, 16))
    for t, instances in results:
        # The very same numbers, so that a resumed run writes the same file.
        assert torch.equal(instances.scores, expected[t].scores)
        assert torch.equal(instances.pred_boxes.tensor, expected[t].pred_boxes.tensor)


@pytest.mark.parametrize("there", [False, True])
def test_the_compiler_is_not_imported_for_a_model_that_is_not_compiled(model, monkeypatch, there):
    marked = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marked.append(0))
    monkeypatch.delitem(sys.modules, "torch._inductor.cudagraph_trees", raising=False)
    if there:
        monkeypatch.setitem(sys.modules, "torch._inductor.cudagraph_trees", torch)
    run(predictor_of(model), make_frames(3))
    assert bool(marked) == there


def test_plain_detectors_see_each_frame_alone():
    cfg = tiny_cfg(*SIZES, config="MovingShapes/rfcn.yaml")
    plain = build(cfg)
    spread_scores(plain)
    predictor = VideoPredictor(cfg, plain)
    frames = make_frames(3)
    for t, frame in enumerate(frames):
        ((index, instances),) = predictor.push(frame)
        assert index == t
        resized = detection_utils.build_augmentation(cfg, False)[0].get_transform(frame)
        image = torch.from_numpy(resized.apply_image(frame).transpose(2, 0, 1).copy())
        assert image.shape == (3, 40, 60)  # 48x72 to a shorter side of 40
        with torch.no_grad():
            (output,) = plain([{"image": image, "height": 48, "width": 72}])
        assert_same(instances, output["instances"])
    assert predictor.flush() == []


def test_a_detector_that_is_given_proposals_is_refused(model):
    with pytest.raises(ValueError, match=r"LOAD_PROPOSALS is True, but a video brings no"):
        predictor_of(model, "MODEL.LOAD_PROPOSALS", True)


def test_rgb_networks_get_rgb():
    cfg = tiny_cfg(*SIZES, "INPUT.FORMAT", "RGB", config="MovingShapes/rfcn.yaml")
    frame = make_frames(1)[0]
    plain = build(cfg)
    ((_, rgb),) = VideoPredictor(cfg, plain).push(frame)
    cfg = tiny_cfg(*SIZES, config="MovingShapes/rfcn.yaml")
    ((_, bgr),) = VideoPredictor(cfg, plain).push(np.ascontiguousarray(frame[:, :, ::-1]))
    assert_same(rgb, bgr)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_memory_of_half_the_size(model, kind):
    frames = make_frames(8)
    full, half = predictor_of(model), predictor_of(model, "TEST.VIDEO.MEMORY_DTYPE", kind)
    for frame in frames:
        results = full.push(frame), half.push(frame)
        assert full.memory.nbytes() == 2 * half.memory.nbytes()
        for (_, a), (_, b) in zip(*results, strict=True):
            torch.testing.assert_close(a.scores[0], b.scores[0], rtol=0, atol=5e-3)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_mixed_precision_keeps_the_sums_in_float32(model, kind, monkeypatch):
    from iff_detectron2.modeling import flow_guided_aggregation as aggregation

    seen = []
    fused = aggregation.warp_and_aggregate

    def spy(features, embeddings, flow, *rest):
        stacked = torch.cat(features), torch.cat(embeddings)
        exact = fused(*(x.double() for x in (*stacked, flow, *rest)))
        out = fused(features, embeddings, flow, *rest)
        # Rounded once, at the end: a softmax or a sum in the small type would be off by more.
        seen.append(((out - exact).abs() / exact.abs().clamp(min=1e-3)).max().item())
        assert {x.dtype for x in stacked} == {getattr(torch, kind)}
        return out

    frames = make_frames(4)
    full = run(predictor_of(model), frames)
    monkeypatch.setattr(aggregation, "warp_and_aggregate", spy)
    mixed = run(predictor_of(model, "TEST.VIDEO.AMP", kind), frames)
    assert len(seen) == 4
    assert max(seen) < 1.01 * torch.finfo(getattr(torch, kind)).eps
    for t in full:
        assert mixed[t].scores.dtype == torch.float32
        torch.testing.assert_close(mixed[t].scores[0], full[t].scores[0], rtol=0, atol=2e-2)


@pytest.mark.parametrize(
    ("key", "value"),
    [("AMP", "int8"), ("ON_SIZE_CHANGE", "ignore"), ("MEMORY_DTYPE", "half"), ("COMPILE", "fast")],
)
def test_unknown_choices_name_their_key(model, key, value):
    with pytest.raises(ValueError, match=rf"TEST\.VIDEO\.{key}.*{value}"):
        predictor_of(model, f"TEST.VIDEO.{key}", value)


def test_what_is_no_frame_is_an_error(model):
    with pytest.raises(TypeError, match=r"frame 0 must be uint8"):
        predictor_of(model).push(np.zeros((4, 4, 3)))


def test_new_weights_are_not_fused_with_the_frames_of_the_old(model):
    model = copy.deepcopy(model)
    predictor = predictor_of(model)
    frames = make_frames(4)
    predictor.push(frames[0])
    model.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="weights of the model changed in the middle of video"):
        predictor.push(frames[1])
    predictor.reset()
    run(predictor, frames)


class Compiler:
    """Stands for torch.compile: captures as for any backend, without minutes of code generation.

    Attributes:
        modes: asked for, by the name of the function.
        calls: of what was compiled, by its name.
    """

    def __init__(self, model):
        self.own, self.modes, self.calls = torch.compile, {}, Counter()
        self.names = {model.backbone: "backbone", model.temporal.aggregators.reduction: "fusion"}

    def __call__(self, function, *, dynamic, mode):
        is_forward = function.__name__ == "forward"
        name = self.names[function.__self__] if is_forward else function.__name__
        assert name not in self.modes
        self.modes[name] = mode
        compiled = self.own(function, dynamic=dynamic, backend="aot_eager")

        def counted(*args, **kwargs):
            self.calls[name] += 1
            return compiled(*args, **kwargs)

        return counted


def offline(model, predictor, frames):
    """Return detections of a model that is given the whole window of each frame, no stream."""
    images = [predictor.prepare(frame).image for frame in frames]
    results = []
    for t in range(len(frames)):
        refs = predictor.window.frames(t, len(frames))
        sample = {
            "image": images[t],
            "ref_images": [images[index] for index in refs],
            "ref_offsets": [index - t for index in refs],
            **dict(zip(("height", "width"), frames[t].shape[:2], strict=True)),
        }
        with torch.inference_mode():
            results.append(model([sample])[0]["instances"])
    return results


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["", "bfloat16"])
def test_a_compiled_stream_equals_the_plain_model_offline(model, monkeypatch, precision):
    compiled = copy.deepcopy(model)
    compiler = Compiler(compiled)
    monkeypatch.setattr(torch, "compile", compiler)
    opts = ("TEST.VIDEO.COMPILE", "reduce-overhead", "TEST.VIDEO.AMP", precision)
    predictor = predictor_of(compiled, *opts)
    videos = [make_frames(7), make_frames(6, 64, 48, seed=1)]
    for frames in videos:
        results = run(predictor, frames)
        expected = offline(model, predictor, frames)
        for t, instances in results.items():
            if precision:
                scores = instances.scores[0], expected[t].scores[0]
                torch.testing.assert_close(*scores, rtol=0, atol=2e-2)
            else:
                assert_same(instances, expected[t])
    # No CUDA graph for fusion, whose window would be copied for it. It runs compiled for the frames
    # whose window lies within the video: 3 of 7 and 2 of 6.
    graphs = "reduce-overhead"
    assert compiler.modes == {"backbone": graphs, "encode": graphs, "fusion": "default"}
    assert compiler.calls == {"backbone": 13, "encode": 13, "fusion": 5}
    predictor_of(compiled, *opts)  # compiles nothing anew: the compiler would object


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


def fail_once(owner, name, after=0):
    """Have a method of a module fail once, after so many calls."""
    own, calls = getattr(owner, name), []

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) <= after:
            return own(*args, **kwargs)
        delattr(owner, name)  # the method of the class is back
        raise Interrupted

    setattr(owner, name, fail)


@pytest.mark.parametrize("part", ["backbone.stem", "temporal.aggregators.reduction", "roi_heads"])
@pytest.mark.parametrize("at", [0, 3])
def test_a_frame_can_be_pushed_again_after_a_failure(model, part, at):
    frames, others = make_frames(6), make_frames(6, seed=1)
    expected = run(predictor_of(model), frames)
    beside, together = run(predictor_of(model), others), {}
    predictor, other = predictor_of(model), predictor_of(model)
    results = {}
    for t, frame in enumerate(frames):
        # Before the first result there is nothing but the backbone that could fail.
        if t == (at if part == "backbone.stem" else max(at, predictor.delay)):
            held = predictor.memory.nbytes()
            fail_once(model.get_submodule(part), "forward")
            with pytest.raises(Interrupted):
                predictor.push(frame)
            assert predictor.memory.nbytes() <= held
        together.update(other.push(others[t]))
        results.update(predictor.push(frame))
    results.update(predictor.flush())
    together.update(other.flush())
    for t in range(6):
        assert_same(results[t], expected[t])
        assert_same(together[t], beside[t])


def test_after_a_failure_a_reset_gives_a_fresh_stream(model):
    frames, others = make_frames(5), make_frames(5, seed=1)
    predictor = predictor_of(model)
    expected = run(predictor_of(model), others)
    for frame in frames[:4]:
        predictor.push(frame)
    fail_once(model.roi_heads, "forward")
    with pytest.raises(Interrupted):
        predictor.push(frames[4])
    predictor.reset()
    results = run(predictor, others)
    for t in range(5):
        assert_same(results[t], expected[t])


@pytest.mark.parametrize("after", [0, 1])
def test_an_end_that_fails_can_be_repeated(model, after):
    frames = make_frames(5)
    expected = run(predictor_of(model), frames)
    predictor = predictor_of(model)
    results = dict(result for frame in frames for result in predictor.push(frame))
    fail_once(model.roi_heads, "forward", after)
    with pytest.raises(Interrupted):
        predictor.flush()
    results.update(predictor.flush())
    for t in range(5):
        assert_same(results[t], expected[t])


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_change_of_size_that_fails_can_be_repeated(model, after):
    parts = [make_frames(4), make_frames(4, 64, 48, seed=1)]
    opts = ("TEST.VIDEO.ON_SIZE_CHANGE", "reset")
    frames = [frame for part in parts for frame in part]
    expected = run(predictor_of(model, *opts), frames)
    predictor = predictor_of(model, *opts)
    results = dict(result for frame in parts[0] for result in predictor.push(frame))
    # Two results of the first part wait; the third thing that may fail is the new frame.
    fail_once(model.roi_heads if after < 2 else model.backbone.stem, "forward", after % 2)
    with pytest.raises(Interrupted):
        predictor.push(parts[1][0])
    results.update(result for frame in parts[1] for result in predictor.push(frame))
    results.update(predictor.flush())
    for t in range(8):
        assert_same(results[t], expected[t])
