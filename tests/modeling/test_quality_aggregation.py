import math

import pytest
import torch
from torch import nn
from toy_models import build, make_video, tiny_cfg, window_sample

from iff_detectron2.modeling import FlowEstimator, QualityAwareAggregator


class ConstantFlow(FlowEstimator):
    """Everything moves by some cells to the right."""

    def __init__(self, cells=0.0):
        super().__init__()
        self.cells = cells

    def encode(self, features, images):
        return features[:, :1]

    def forward(self, key, refs):
        flow = refs.new_zeros(len(refs), 2, *refs.shape[-2:])
        flow[:, 0] = self.cells
        return flow


class FirstChannel(nn.Module):
    """Quality is what the first channel says."""

    def forward(self, x):
        return x[:, :1]


def make(cells=0.0, embedding=None, **kwargs):
    kwargs.setdefault("quality", FirstChannel())
    embedding = nn.Identity() if embedding is None else embedding
    flow = ConstantFlow(cells)
    return QualityAwareAggregator(flow_estimator=flow, embedding=embedding, **kwargs).eval()


def fuse(module, key, refs):
    image = torch.zeros(1, 3, 1, 1)
    codes = [module.encode(x, image.expand(len(x), -1, -1, -1)) for x in (key, refs)]
    return module(*codes, offsets=range(1, 1 + len(refs))).feature


def softplus(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("grad", [True, False])
def test_weights_by_hand(grad):
    """Frames of one cell; the cosines are 1, 0 and -1."""
    module = make()
    with torch.no_grad():
        module.log_scale.fill_(0.4)
        module.key_bias.fill_(-0.6)
    key = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    refs = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]).view(3, 2, 1, 1)
    with torch.set_grad_enabled(grad):
        got = fuse(module, key, refs)
    scale = math.exp(0.4)
    cosine_quality_bias = [(1, 1.0, -0.6), (1, 2.0, 0), (0, 0.0, 0), (-1, -1.0, 0)]
    shares = [math.exp(scale * c + softplus(q) + b) for c, q, b in cosine_quality_bias]
    weights = torch.tensor(shares) / sum(shares)
    expected = (weights.view(4, 1) * torch.cat((key, refs)).view(4, 2)).sum(0)
    torch.testing.assert_close(got.flatten(), expected)


def test_quality_moves_with_the_frame_and_what_lies_outside_is_worst():
    """One cell to the right: the last column has nothing to look at."""
    module = make(cells=1.0)
    key = torch.zeros(1, 2, 1, 3)
    key[:, 1] = 1
    refs = torch.zeros(1, 2, 1, 3)
    refs[0, 0, 0] = torch.tensor([9.0, 2.0, -1.0])
    codes = [module.encode(x, torch.zeros(1, 3, 1, 1)) for x in (key, refs)]
    # The embedding is the feature, whose cosine with the key frame's (0, 1) is 0 everywhere.
    scores = module.align(*codes, offsets=[1]).scores.flatten()
    expected = torch.tensor([softplus(2.0), softplus(-1.0), 0.0])
    torch.testing.assert_close(scores, expected)


def test_learns_to_look_away_from_a_spoilt_frame():
    """One of three frames is spoilt, each in its turn, and its second channel tells."""
    torch.manual_seed(0)
    quality = nn.Conv2d(2, 1, 1)
    module = make(embedding=lambda x: torch.ones_like(x), quality=quality)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
    for step in range(150):
        clean = torch.randn(1, 1, 8, 8)
        frames = torch.cat([clean, torch.zeros_like(clean)], 1).repeat(3, 1, 1, 1)
        frames[step % 3] = torch.cat([torch.randn(1, 8, 8), torch.ones(1, 8, 8)])
        optimiser.zero_grad()
        fused = fuse(module, frames[:1], frames[1:])[:, :1]
        loss = (fused - clean).square().mean()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05  # the mean of the three frames has 2 / 9
    good, bad = (quality(torch.tensor([0.0, b]).view(1, 2, 1, 1)).item() for b in (0, 1))
    assert softplus(good) - softplus(bad) > 3


def test_a_model_with_it_starts_with_the_key_frame_and_streams_as_it_recomputes():
    opts = ("MODEL.IFF.AGGREGATOR", "QualityAwareAggregator")
    models = [
        build(tiny_cfg(*opts, "TEST.VIDEO.STREAMING", s, "TEST.VIDEO.PAIRS_PER_CHUNK", c))
        for s, c in ((True, 0), (False, 0), (False, 3))
    ]
    video = make_video(4)
    for model in models:
        aggregator = model.temporal.aggregators["reduction"]
        assert type(aggregator) is QualityAwareAggregator
        key = torch.randn(1, aggregator.quality[0].in_channels, 6, 7)
        codes = aggregator.encode(key, torch.zeros(1, 3, 1, 1))
        assert codes["quality"].unique().tolist() == [pytest.approx(softplus(2.0))]
        # Four frames like the key frame: it weighs e^3 times as much as each of them.
        refs = {name: x.repeat(4, 1, 1, 1) for name, x in codes.items()}
        alignment = aggregator.align(codes, refs, offsets=[1, 2, 3, 4])
        _, weights = aggregator.fused_frames(codes, alignment)
        inner = weights[:, 0, 2, 3]
        torch.testing.assert_close(inner[0] / inner[1:], torch.full((4,), math.exp(3)))
        with torch.no_grad():
            torch.manual_seed(1)
            for parameter in aggregator.quality.parameters():
                nn.init.normal_(parameter, std=0.3)
            aggregator.key_bias.fill_(-1)
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
