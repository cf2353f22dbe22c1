import math

import pytest
import torch
from torch import nn
from toy_models import build, make_video, tiny_cfg, window_sample

from iff_detectron2.modeling import FlowEstimator, FlowGuidedAggregator, OffsetAwareAggregator


class NoFlow(FlowEstimator):
    def encode(self, features, images):
        return features[:, :1]

    def forward(self, key, refs):
        return refs.new_zeros(len(refs), 2, *refs.shape[-2:])


def make(cls=OffsetAwareAggregator, embedding=None, **kwargs):
    if cls is OffsetAwareAggregator:
        kwargs.setdefault("max_offset", 3)
    embedding = nn.Identity() if embedding is None else embedding
    return cls(flow_estimator=NoFlow(), embedding=embedding, **kwargs).eval()


def fuse(module, key, refs, offsets):
    image = torch.zeros(1, 3, 1, 1)
    codes = [module.encode(x, image.expand(len(x), -1, -1, -1)) for x in (key, refs)]
    return module(*codes, offsets=offsets).feature


def test_starts_as_the_papers_aggregation():
    key, refs = torch.randn(1, 4, 5, 7), torch.randn(3, 4, 5, 7)
    ours, papers = (
        fuse(make(c), key, refs, [-2, 1, 3]) for c in (OffsetAwareAggregator, FlowGuidedAggregator)
    )
    torch.testing.assert_close(ours, papers)


@pytest.mark.parametrize("grad", [True, False])
def test_weights_by_hand(grad):
    """Frames of one number each; two embeddings, so that the cosines are 1, 0 and -1."""
    module = make(max_offset=2, fuse_key_frame=True)
    with torch.no_grad():
        module.log_scale.copy_(torch.tensor([0.0, 0.7, 0.2, 0.0, -0.5]))  # offsets -2 .. 2
        module.bias.copy_(torch.tensor([0.1, 0.0, 0.4, 0.0, 0.3]))
    key = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    refs = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]).view(3, 2, 1, 1)
    with torch.set_grad_enabled(grad):
        got = fuse(module, key, refs, [-1, 2, 7])  # 7 counts as 2
    cosine_scale_bias = [(1, 0.2, 0.4), (1, 0.7, 0.0), (0, -0.5, 0.3), (-1, -0.5, 0.3)]
    shares = [math.exp(math.exp(a) * c + b) for c, a, b in cosine_scale_bias]
    weights = torch.tensor(shares) / sum(shares)
    expected = (weights.view(4, 1) * torch.cat((key, refs)).view(4, 2)).sum(0)
    torch.testing.assert_close(got.flatten(), expected)


def test_learns_to_trust_what_is_near():
    """Neighbours get noisier with their distance, and nothing but their offset tells."""
    torch.manual_seed(0)
    module = make(embedding=lambda x: torch.ones_like(x), max_offset=4, fuse_key_frame=False)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
    offsets = [-4, -3, -2, -1, 1, 2, 3, 4]
    noise = torch.tensor(offsets).abs().float().view(-1, 1, 1, 1)
    for _ in range(120):
        clean = torch.randn(1, 4, 8, 8)
        optimiser.zero_grad()
        fused = fuse(module, clean, clean + noise * torch.randn(8, 4, 8, 8), offsets)
        (fused - clean).square().mean().backward()
        optimiser.step()
    score = (module.log_scale.exp() + module.bias).detach()  # every cosine is 1
    by_distance = [(score[4 - d] + score[4 + d]).item() / 2 for d in range(1, 5)]
    assert by_distance == sorted(by_distance, reverse=True)
    # The best weights of independent noise are inverse to its variance: log 16 between 1 and 4.
    assert by_distance[0] - by_distance[3] == pytest.approx(math.log(16), rel=0.2)


def test_a_model_with_it_streams_as_it_recomputes():
    opts = ("MODEL.IFF.AGGREGATOR", "OffsetAwareAggregator")
    models = [
        build(tiny_cfg(*opts, "TEST.VIDEO.STREAMING", s, "TEST.VIDEO.PAIRS_PER_CHUNK", c))
        for s, c in ((True, 0), (False, 0), (False, 3))
    ]
    for model in models:
        aggregator = model.temporal.aggregators["reduction"]
        assert type(aggregator) is OffsetAwareAggregator
        assert aggregator.max_offset == 10
        with torch.no_grad():
            aggregator.bias.copy_(torch.linspace(-3, 3, 21))
    video = make_video(4)
    window = models[0].temporal.window
    with torch.no_grad():
        for t in range(4):
            streamed = window_sample(video, t, window.offsets, streaming_from=max(t - 1, 0))
            whole = window_sample(video, t, window.offsets)
            maps = []
            for model, sample in zip(models, (streamed, whole, whole), strict=True):
                model([sample])
                maps.append(model.temporal.last[0].levels["reduction"].feature)
            torch.testing.assert_close(maps[1], maps[0])
            torch.testing.assert_close(maps[2], maps[0])


def test_offsets_must_belong_to_the_refs():
    with pytest.raises(ValueError, match="2 reference frames, but 1 offsets"):
        fuse(make(), torch.randn(1, 4, 3, 3), torch.randn(2, 4, 3, 3), [1])


def test_offsets_need_a_range():
    with pytest.raises(ValueError, match=r"INPUT\.VIDEO\.MAX_OFFSET"):
        make(max_offset=0)
