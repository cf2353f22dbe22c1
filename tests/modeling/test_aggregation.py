import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn
from toy_models import tiny_cfg

from iff_detectron2.modeling import (
    AGGREGATOR_REGISTRY,
    Aggregator,
    AverageAggregator,
    DeformableAggregator,
    FlowEstimator,
    FlowGuidedAggregator,
    OffsetAwareAggregator,
    SimilarityAggregator,
    TwoHypothesesAggregator,
    build_aggregator,
)
from iff_detectron2.modeling.similarity_aggregation import Embedding, similarity


class ConstantFlow(FlowEstimator):
    """Stands for a flow estimator that knows the motion."""

    def __init__(self, dx: float, dy: float) -> None:
        super().__init__()
        self.motion = torch.tensor([dx, dy]).view(1, 2, 1, 1)

    def encode(self, features, images):
        return features[:, :1]

    def forward(self, key, refs):
        return self.motion.expand(len(refs), 2, *refs.shape[-2:])


def aggregator(flow=(0.0, 0.0), **kwargs):
    torch.manual_seed(0)
    return FlowGuidedAggregator(
        flow_estimator=ConstantFlow(*flow), embedding=nn.Conv2d(3, 5, 1), **kwargs
    ).eval()


def run(module, key, refs):
    key, refs = encode(module, key), encode(module, refs)
    return module(key, refs, offsets=range(1, 1 + len(refs["feature"])))


def encode(module, features):
    return module.encode(features, images=torch.zeros(len(features), 3, 1, 1))


def weights_of(scores, key):
    """Return what the aggregator makes of frames with these embeddings, none of them moved."""
    module = FlowGuidedAggregator(
        flow_estimator=ConstantFlow(0.0, 0.0), embedding=nn.Identity(), fuse_key_frame=False
    )
    key, refs = encode(module, key), encode(module, scores)
    alignment = module.align(key, refs, offsets=[1] * len(scores))
    return module.fused_frames(key, alignment)[1]


def test_weights_by_hand():
    key = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    others = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]).view(3, 2, 1, 1)
    assert similarity(others, key).flatten().tolist() == pytest.approx([1, 0, -1])
    expected = [math.exp(c) for c in (1, 0, -1)]
    weights = weights_of(others, key).flatten().tolist()
    assert weights == pytest.approx([e / sum(expected) for e in expected])


def test_zero_vectors_have_no_direction_but_a_weight():
    weights = weights_of(torch.zeros(2, 4, 3, 3), torch.randn(1, 4, 3, 3))
    torch.testing.assert_close(weights, torch.full((2, 1, 3, 3), 0.5))


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("key_too", [True, False])
def test_static_clip_with_zero_flow_is_unchanged(before, key_too):
    key = torch.randn(1, 3, 5, 7)
    module = aggregator(embed_before_warp=before, fuse_key_frame=key_too)
    refs = key.expand(4, -1, -1, -1)
    result = run(module, key, refs)
    torch.testing.assert_close(result.feature, key)
    codes = encode(module, key)
    alignment = module.align(codes, encode(module, refs), offsets=[1] * 4)
    _, weights = module.fused_frames(codes, alignment)
    assert weights.shape == (4 + key_too, 1, 5, 7)
    torch.testing.assert_close(weights.sum(0), torch.ones(1, 5, 7))


@pytest.mark.parametrize("before", [True, False])
def test_true_motion_undoes_a_shift(before):
    wide = torch.randn(1, 3, 6, 12)
    key, ref = wide[..., 2:9], wide[..., 1:8]  # what the key shows at x, the neighbour at x + 1
    result = run(aggregator((1.0, 0.0), embed_before_warp=before), key, ref)
    torch.testing.assert_close(result.feature[..., :-1], key[..., :-1])
    assert not torch.allclose(run(aggregator(), key, ref).feature[..., :-1], key[..., :-1])


def test_flow_out_of_the_map_gives_no_nan():
    key = torch.randn(1, 3, 5, 7, requires_grad=True)
    result = run(aggregator((100.0, -100.0)), key, torch.randn(2, 3, 5, 7))
    result.feature.sum().backward()
    assert torch.isfinite(result.feature).all()
    assert torch.isfinite(key.grad).all()


@pytest.mark.parametrize("key_too", [True, False])
def test_testing_and_training_fuse_alike(key_too):
    key, refs = torch.randn(1, 3, 5, 7), torch.randn(4, 3, 5, 7)
    module = aggregator((0.6, -1.3), fuse_key_frame=key_too)
    with_gradient = run(module, key, refs).feature
    with torch.no_grad():
        torch.testing.assert_close(run(module, key, refs).feature, with_gradient)


@pytest.mark.parametrize("kind", ["flow", "average"])
def test_without_refs_the_key_frame_passes(kind):
    module = aggregator() if kind == "flow" else AverageAggregator()
    key = torch.randn(1, 3, 5, 7)
    torch.testing.assert_close(run(module, key, key[:0]).feature, key)


def test_average_is_the_mean():
    key, refs = torch.randn(1, 3, 5, 7), torch.randn(2, 3, 5, 7)
    with_key = run(AverageAggregator(), key, refs).feature
    torch.testing.assert_close(with_key, (key + refs[:1] + refs[1:]) / 3)
    without = run(AverageAggregator(fuse_key_frame=False), key, refs).feature
    torch.testing.assert_close(without, (refs[:1] + refs[1:]) / 2)


def test_embedding_order_matters_only_through_the_warp():
    """A 1x1 embedding without bias commutes with the warp, so both orders agree inside the map."""
    key, refs = torch.randn(1, 3, 6, 8), torch.randn(3, 3, 6, 8)
    results = []
    for before in (True, False):
        module = aggregator((0.4, -0.3), embed_before_warp=before)
        nn.init.zeros_(module.embedding.bias)
        results.append(run(module, key, refs).feature)
    torch.testing.assert_close(*results)


def test_losses_in_training_only():
    class Loss(nn.Module):
        def forward(self, key, refs, flow):
            return refs.mean() * 2

    module = aggregator(alignment_loss=Loss())
    key, refs = torch.randn(1, 3, 5, 7), torch.randn(2, 3, 5, 7)
    assert run(module, key, refs).losses == {}
    losses = run(module.train(), key, refs).losses
    assert losses["loss_trl"].item() == pytest.approx(2 * refs.mean().item(), rel=1e-5)


@pytest.mark.parametrize("key_too", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", ["flow", "average"])
def test_chunks_give_the_same_sum(kind, size, key_too):
    module = aggregator((0.6, -1.3), fuse_key_frame=key_too)
    if kind == "average":
        module = AverageAggregator(fuse_key_frame=key_too)
    key, refs = encode(module, torch.randn(1, 3, 5, 7)), encode(module, torch.randn(5, 3, 5, 7))
    offsets = [-2, -1, 1, 2, 3]
    chunks = [
        ({name: x[i : i + size] for name, x in refs.items()}, offsets[i : i + size], None)
        for i in range(0, 5, size)
    ]
    with torch.no_grad():
        whole = module(key, refs, offsets=offsets)
        parts = module.forward_in_chunks(key, chunks, 5)
    torch.testing.assert_close(parts.feature, whole.feature)
    if kind == "flow":
        torch.testing.assert_close(parts.flow, whole.flow)


def test_chunks_stand_scores_of_any_size():
    class Scored(AverageAggregator):
        def align(self, key, refs, *, offsets, flow=None):
            alignment = super().align(key, refs, offsets=offsets)
            scale = torch.tensor(offsets, dtype=torch.float32).view(-1, 1, 1, 1)
            alignment.scores = alignment.scores + 200 * scale
            return alignment

    module = Scored(fuse_key_frame=False)
    key, refs = {"feature": torch.randn(1, 3, 2, 2)}, torch.randn(3, 3, 2, 2)
    chunks = [({"feature": refs[i : i + 1]}, [i], None) for i in range(3)]
    torch.testing.assert_close(module.forward_in_chunks(key, chunks, 3).feature, refs[2:])


def test_carried_flow_is_used_as_it_is():
    module = aggregator()
    module.flow_estimator = None
    assert not module.estimates_flow
    wide = torch.randn(1, 3, 6, 12)
    key, ref = encode(module, wide[..., 2:9]), encode(module, wide[..., 1:8])
    flow = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 6, 7)
    result = module(key, ref, offsets=[1], flow=flow)
    torch.testing.assert_close(result.feature[..., :-1], key["feature"][..., :-1])
    with pytest.raises(ValueError, match="needs the flow of another map"):
        module(key, ref, offsets=[1])


@pytest.mark.parametrize("kind", ["FlowGuidedAggregator", "AverageAggregator"])
def test_the_key_frame_may_be_left_out_in_training_alone(kind):
    """FGFA's release: reference frames only in training, the key frame among them in testing."""
    shape = ShapeSpec(channels=3, stride=8)
    opts = ("MODEL.IFF.AGGREGATOR", kind, "MODEL.IFF.FUSE_KEY_FRAME_IN_TRAINING", False)
    module = build_aggregator(tiny_cfg(*opts), shape)
    codes = [encode(module, torch.randn(n, 3, 5, 7)) for n in (1, 2)]
    alignment = module.align(*codes, offsets=[1, 2])
    for training, count in ((True, 2), (False, 3)):
        module.train(training)
        frames, weights = module.fused_frames(codes[0], alignment)
        assert len(frames) == len(weights) == count
    module.train()
    alone = module.align(codes[0], encode(module, torch.zeros(0, 3, 5, 7)), offsets=[])
    assert len(module.fused_frames(codes[0], alone)[0]) == 1


OWN = {
    AverageAggregator: {},
    FlowGuidedAggregator: {
        "flow_estimator": ConstantFlow(1.0, 0.0),
        "embedding": Embedding(3, 4, 5),
    },
    OffsetAwareAggregator: {
        "flow_estimator": ConstantFlow(1.0, 0.0),
        "embedding": Embedding(3, 4, 5),
        "max_offset": 2,
    },
    TwoHypothesesAggregator: {
        "flow_estimator": ConstantFlow(1.0, 0.0),
        "embedding": Embedding(3, 4, 5),
    },
    DeformableAggregator: {
        "in_channels": 3,
        "channels": 4,
        "groups": 1,
        "embedding": Embedding(3, 4, 5),
    },
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("step", ["align", "fused_frames"])
@pytest.mark.parametrize("on", ["class", "instance"])
def test_a_step_of_ones_own_is_taken_in_testing_too(kind, step, on):
    def align(self, key, refs, *, offsets, flow=None):
        alignment = kind.align(self, key, refs, offsets=offsets, flow=flow)
        alignment.scores = alignment.scores - 100  # the key frame alone counts
        return alignment

    def fused_frames(self, key, alignment):
        return key["feature"], torch.ones_like(alignment.key_score)

    change = {"align": align, "fused_frames": fused_frames}[step]
    cls = type("Own", (kind,), {step: change} if on == "class" else {})
    module = cls(**OWN[kind]).eval()
    if on == "instance":
        setattr(module, step, change.__get__(module))
    key, refs = torch.randn(1, 3, 6, 7), torch.randn(2, 3, 6, 7)
    with torch.no_grad():
        got = run(module, key, refs).feature
        plain = run(kind(**OWN[kind]).eval(), key, refs).feature
    torch.testing.assert_close(got, key)
    assert not torch.allclose(plain, key, atol=1e-2)


@pytest.mark.parametrize("kind", OWN)
def test_leaving_the_key_frame_out_in_training_is_an_argument_of_every_aggregator(kind):
    module = kind(**OWN[kind], fuse_key_frame_in_training=False)
    key, refs = (encode(module, torch.randn(n, 3, 6, 7)) for n in (1, 2))
    alignment = module.align(key, refs, offsets=[1, 2])
    assert len(module.train().fused_frames(key, alignment)[0]) == 2
    assert len(module.eval().fused_frames(key, alignment)[0]) == 3


def test_an_aggregator_that_does_not_take_it_is_refused():
    @AGGREGATOR_REGISTRY.register()
    class Careless(Aggregator):
        def __init__(self, cfg, input_shape, *, carried_flow=False):
            super().__init__()

        def align(self, key, refs, *, offsets, flow=None):
            raise NotImplementedError

    try:
        opts = ("MODEL.IFF.AGGREGATOR", "Careless")
        shape = ShapeSpec(channels=3, stride=8)
        build_aggregator(tiny_cfg(*opts), shape)
        cfg = tiny_cfg(*opts, "MODEL.IFF.FUSE_KEY_FRAME_IN_TRAINING", False)
        with pytest.raises(ValueError, match="Careless was built without it"):
            build_aggregator(cfg, shape)
    finally:
        del AGGREGATOR_REGISTRY._obj_map["Careless"]


def test_similarity_without_flow_weighs_by_hand():
    key = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    refs = torch.tensor([[0.0, 3.0], [-2.0, 0.0]]).view(2, 2, 1, 1)
    result = run(SimilarityAggregator(embedding=nn.Identity()), key, refs)
    shares = torch.tensor([math.e, 1, 1 / math.e])
    expected = (shares[:, None] * torch.tensor([[1.0, 0], [0, 3], [-2, 0]])).sum(0) / shares.sum()
    torch.testing.assert_close(result.feature.flatten(), expected)
    assert result.flow is None
