import copy

import pytest
import torch
from detectron2.utils.events import EventStorage
from toy_models import (
    build,
    make_video,
    randomise_flow,
    tiny_cfg,
    training_sample,
    window_sample,
)

from iff_detectron2.structures import TemporalWindow


def detect(model, sample):
    with torch.no_grad():
        return model([sample])[0]["instances"]


def assert_same(a, b):
    assert len(a) == len(b)
    torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=0, atol=1e-3)
    assert a.pred_classes.tolist() == b.pred_classes.tolist()


@pytest.fixture(scope="module")
def models():
    """One set of weights in a streaming and in a stateless detector, with flow that moves."""
    streaming = build(tiny_cfg())
    randomise_flow(streaming)
    stateless = build(tiny_cfg("TEST.VIDEO.STREAMING", False))
    stateless.load_state_dict(streaming.state_dict())
    return streaming, stateless


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("causal", [False, True])
def test_streaming_equals_recomputing_every_window(models, length, causal):
    streaming, stateless = models
    window = TemporalWindow(4, causal=causal)
    video = make_video(length, seed=length)
    streaming.reset()
    streaming.temporal.window = window
    moved = 0.0
    for t in range(length):
        previous = t - 1 if t else 0
        sample = window_sample(video, t, window.offsets, streaming_from=previous)
        whole = window_sample(video, t, window.offsets)
        assert_same(detect(streaming, sample), detect(stateless, whole))
        moved += streaming.temporal.last[0].levels["reduction"].flow.abs().mean().item()
        assert len(streaming.temporal.memory) <= len(window.offsets) + 1
    assert moved > 0.01  # else the comparison would say nothing


def test_each_frame_passes_the_backbone_once(models):
    streaming, _ = models
    streaming.reset()
    streaming.temporal.window = window = TemporalWindow(4)
    video = make_video(6)
    seen = []
    hook = streaming.backbone.stem.register_forward_hook(lambda m, a, out: seen.append(len(out)))
    for t in range(6):
        detect(streaming, window_sample(video, t, window.offsets, streaming_from=max(t - 1, 0)))
    hook.remove()
    assert seen == [3, 1, 1, 1]  # the last two windows bring no new frame


def test_random_order_needs_no_memory(models):
    _, stateless = models
    video = make_video(6, seed=3)
    offsets = TemporalWindow(4).offsets
    in_order = [detect(stateless, window_sample(video, t, offsets)) for t in range(6)]
    for t in (4, 0, 5, 2):
        assert_same(detect(stateless, window_sample(video, t, offsets)), in_order[t])


def test_two_videos_do_not_mix(models):
    streaming, _ = models
    streaming.temporal.window = window = TemporalWindow(4)
    a, b = make_video(3, seed=1), make_video(3, seed=2)

    def run(video, name):
        samples = [
            window_sample(video, t, window.offsets, streaming_from=max(t - 1, 0), video_id=name)
            for t in range(3)
        ]
        return [detect(streaming, sample) for sample in samples]

    streaming.reset()
    alone = run(b, "b")
    run(a, "a")
    for x, y in zip(run(b, "b"), alone, strict=True):
        assert_same(x, y)


def test_weights_of_another_training_state_leave_no_features_behind(models):
    streaming, _ = models
    detect(streaming, window_sample(make_video(3), 0, (-2, -1, 1, 2), streaming_from=0))
    assert len(streaming.temporal.memory)
    streaming.train().eval()
    assert not len(streaming.temporal.memory)


def test_copies_are_independent(models):
    streaming, _ = models
    streaming.reset()
    streaming.temporal.window = window = TemporalWindow(4)
    video = make_video(3)
    twin = copy.deepcopy(streaming)
    for parameter in twin.parameters():
        parameter.data.mul_(0.5)
    first = window_sample(video, 0, window.offsets, streaming_from=0)
    detect(streaming, first)
    assert not len(twin.temporal.memory)
    before = streaming.temporal.last[0].levels["reduction"].feature.clone()
    detect(twin, first)
    torch.testing.assert_close(streaming.temporal.last[0].levels["reduction"].feature, before)
    assert not torch.allclose(twin.temporal.last[0].levels["reduction"].feature, before)


def test_the_memory_holds_no_graph_and_copies_work_with_gradients_on(models):
    streaming, _ = models
    streaming.reset()
    streaming.temporal.window = window = TemporalWindow(4)
    streaming([window_sample(make_video(3), 0, window.offsets, streaming_from=0)])
    kept = streaming.temporal.memory.gather([0, 1, 2])["reduction"]
    assert not any(x.requires_grad for x in kept.values())
    one = streaming.temporal.memory.gather([1])["reduction"]["feature"]
    assert one.untyped_storage().nbytes() == one.numel() * one.element_size()
    assert not copy.deepcopy(streaming).temporal.last


def test_loading_weights_forgets_the_features_of_the_old_ones(models):
    streaming, _ = models
    streaming.temporal.window = window = TemporalWindow(4)
    detect(streaming, window_sample(make_video(3), 0, window.offsets, streaming_from=0))
    assert len(streaming.temporal.memory)
    streaming.load_state_dict(streaming.state_dict())
    assert not len(streaming.temporal.memory)


def test_a_skipped_frame_is_an_error(models):
    streaming, _ = models
    streaming.reset()
    streaming.temporal.window = window = TemporalWindow(4)
    video = make_video(9)
    detect(streaming, window_sample(video, 0, window.offsets, streaming_from=0))
    with pytest.raises(ValueError, match=r"frame 5 of video 'v' needs frames \[3, 4, 6\]"):
        detect(streaming, window_sample(video, 5, window.offsets, streaming_from=4))


def test_batches_do_not_stream(models):
    streaming, stateless = models
    video = make_video(5)
    samples = [window_sample(video, t, (-2, -1, 1, 2)) for t in (1, 3)]
    with pytest.raises(ValueError, match=r"TEST\.VIDEO\.STREAMING"):
        streaming(samples)
    with torch.no_grad():
        together = stateless(samples)
    for sample, output in zip(samples, together, strict=True):
        assert_same(output["instances"], detect(stateless, sample))


def test_stills_are_detected_too(models):
    streaming, _ = models
    image = make_video(1)[0]
    with torch.no_grad():
        outputs = streaming([{"image": image}, {"image": image}])
    assert_same(outputs[0]["instances"], outputs[1]["instances"])


def test_unknown_feature_names_the_key():
    with pytest.raises(ValueError, match=r"MODEL\.IFF\.IN_FEATURES"):
        build(tiny_cfg("MODEL.IFF.IN_FEATURES", "['p9']"))


@pytest.mark.parametrize(
    ("opts", "has_trl"),
    [
        (("MODEL.IFF.FUSE_KEY_FRAME", False), True),
        (("MODEL.IFF.EMBEDDING.BEFORE_WARP", False), True),
        (("MODEL.IFF.TRL.ENABLED", False), False),
        (("MODEL.IFF.FLOW.NAME", "BasicIFF"), True),
        (("MODEL.IFF.AGGREGATOR", "AverageAggregator"), False),
        (("MODEL.IFF.AGGREGATOR", "OffsetAwareAggregator"), True),
        (("MODEL.IFF.AGGREGATOR", "TwoHypothesesAggregator"), True),
        (("MODEL.IFF.TRL.NAME", "ContextResidualLoss"), True),
        (("MODEL.IFF.FUSE_KEY_FRAME_IN_TRAINING", False), True),
        (("MODEL.IFF.FLOW.NAME", "FlowNetS"), True),
        (("MODEL.DILATED_RESNET.DEFORM_BLOCKS", "[0,0,1,1]"), True),
    ],
)
def test_every_choice_of_the_config_trains_and_streams(opts, has_trl):
    model = build(tiny_cfg(*opts)).train()
    video = make_video(3)
    with EventStorage():
        losses = model([training_sample(video, 1, (-1, 1), [(10, 10, 60, 50)], [0])])
    assert ("loss_trl" in losses) == has_trl
    sum(losses.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    model.eval()
    for t in range(3):
        sample = window_sample(video, t, (-2, -1, 1, 2), streaming_from=max(t - 1, 0))
        assert torch.isfinite(detect(model, sample).scores).all()


@pytest.mark.parametrize("offsets", [(-2, 1), (0, 0), ()])
@pytest.mark.parametrize("boxes", [[(10, 10, 60, 50)], []])
def test_training_step_uses_every_parameter(offsets, boxes):
    model = build(tiny_cfg()).train()
    randomise_flow(model)
    video = make_video(5)
    samples = [training_sample(video, t, offsets, boxes, [0] * len(boxes)) for t in (2, 3)]
    with EventStorage():
        losses = model(samples)
    assert {"loss_trl", "loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"} == set(losses)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("size", [1, 3])
def test_chunks_of_refs_give_the_same_detections(models, size):
    _, stateless = models
    video = make_video(6, seed=5)
    sample = window_sample(video, 3, TemporalWindow(4).offsets)
    expected = detect(stateless, sample)
    chunked = build(tiny_cfg("TEST.VIDEO.STREAMING", False, "TEST.VIDEO.PAIRS_PER_CHUNK", size))
    chunked.load_state_dict(stateless.state_dict())
    assert_same(detect(chunked, sample), expected)


def test_a_negative_chunk_names_its_key():
    with pytest.raises(ValueError, match=r"TEST\.VIDEO\.PAIRS_PER_CHUNK"):
        build(tiny_cfg("TEST.VIDEO.PAIRS_PER_CHUNK", -1))


def test_half_precision_memory_stays_close(models):
    streaming, _ = models
    half = build(tiny_cfg("TEST.VIDEO.MEMORY_DTYPE", "bfloat16"))
    half.load_state_dict(streaming.state_dict())
    video = make_video(5, seed=6)
    for model in (streaming, half):
        model.reset()
        model.temporal.window = window = TemporalWindow(4)
        for t in range(5):
            sample = window_sample(video, t, window.offsets, streaming_from=max(t - 1, 0))
            detect(model, sample)
    full, rounded = (m.temporal.last[0].levels["reduction"].feature for m in (streaming, half))
    assert half.temporal.memory.nbytes() * 2 == streaming.temporal.memory.nbytes()
    assert 0 < (full - rounded).abs().max() < 0.02 * full.abs().max()
