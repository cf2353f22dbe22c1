import pytest
import torch
from detectron2.utils.events import EventStorage
from torch.nn import functional as F
from toy_models import build, make_video, tiny_cfg, training_sample, window_sample

from iff_detectron2.modeling import DeformableAggregator
from iff_detectron2.modeling.similarity_aggregation import Embedding


def aggregator(channels=6, groups=2, **kwargs) -> DeformableAggregator:
    torch.manual_seed(0)
    return DeformableAggregator(
        in_channels=channels,
        channels=5,
        groups=groups,
        embedding=Embedding(channels, 4, 7),
        **kwargs,
    )


def codes(model, frames):
    return model.encode(frames, torch.zeros(len(frames), 3, 8, 8))


def fuse(model, key, refs):
    return model(codes(model, key), codes(model, refs), offsets=list(range(1, len(refs) + 1)))


def test_untrained_it_weighs_the_frames_as_they_are():
    model = aggregator()
    key, refs = torch.randn(1, 6, 7, 9), torch.randn(3, 6, 7, 9)
    frames = torch.cat((key, refs))
    embedded = model.embedding(frames)
    weights = F.cosine_similarity(embedded, embedded[:1], dim=1).softmax(dim=0)[:, None]
    expected = (weights * frames).sum(dim=0, keepdim=True)
    torch.testing.assert_close(fuse(model, key, refs).feature, expected)


def test_a_static_clip_stays_what_it_is():
    key = torch.randn(1, 6, 5, 4)
    result = fuse(aggregator(), key, key.expand(4, -1, -1, -1))
    torch.testing.assert_close(result.feature, key)
    assert result.flow is None


@pytest.mark.parametrize(("dy", "dx"), [(1, 0), (0, 2), (-1, 1)])
def test_whole_offsets_shift(dy, dx):
    """All taps moved alike are a shift; what comes from outside is zero."""
    model = aggregator(fuse_key_frame=False)
    with torch.no_grad():
        model.offset.bias.view(-1, 2).copy_(torch.tensor([float(dy), float(dx)]))
    ref = torch.randn(1, 6, 8, 9)
    got = fuse(model, torch.randn(1, 6, 8, 9), ref).feature
    padded = F.pad(ref, (3, 3, 3, 3))
    expected = padded[:, :, 3 + dy : 11 + dy, 3 + dx : 12 + dx]
    torch.testing.assert_close(got, expected)


def test_groups_of_features_have_offsets_of_their_own():
    model = aggregator(fuse_key_frame=False)
    with torch.no_grad():  # the second group, the last three channels, looks one cell to the right
        model.offset.bias.view(2, 9, 2)[1, :, 1] = 1
    ref = torch.randn(1, 6, 8, 9)
    got = fuse(model, torch.randn(1, 6, 8, 9), ref).feature
    torch.testing.assert_close(got[:, :3], ref[:, :3])
    torch.testing.assert_close(got[:, 3:, :, :-1], ref[:, 3:, :, 1:])


def test_it_learns_a_motion():
    """Offsets are found by gradient alone, where a plain mean cannot follow."""
    torch.manual_seed(1)
    model = aggregator(channels=4, groups=1, fuse_key_frame=False)
    ref = F.avg_pool2d(torch.randn(1, 4, 20, 20), 5, 1, 2) * 5
    key = torch.roll(ref, 1, dims=3)
    optimizer = torch.optim.Adam([*model.offset.parameters()], lr=0.03)

    def loss():
        return (fuse(model, key, ref).feature - key)[..., 3:-3].square().mean()

    before = loss().item()
    for _ in range(60):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.1 * before


def test_no_refs():
    model = aggregator(fuse_key_frame=False)
    key = torch.randn(1, 6, 5, 4)
    torch.testing.assert_close(fuse(model, key, key[:0]).feature, key)


def test_half_precision():
    model = aggregator().bfloat16()
    key, refs = torch.randn(1, 6, 5, 4), torch.randn(2, 6, 5, 4)
    got = fuse(model, key.bfloat16(), refs.bfloat16()).feature
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(
        got.float(), fuse(aggregator(), key, refs).feature, rtol=0.03, atol=0.03
    )


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match=r"MODEL.IFF.DEFORM.GROUPS \(4\) must divide the 6"):
        aggregator(groups=4)


def test_in_a_detector():
    """Each weight is trained, and a stream gives what whole windows give, also in chunks."""
    opts = ("MODEL.IFF.AGGREGATOR", "DeformableAggregator", "MODEL.IFF.DEFORM.CHANNELS", 8)
    model = build(tiny_cfg(*opts)).train()
    clip = make_video(4)
    with EventStorage(0):
        losses = model([training_sample(clip, 1, (-1, 2), [[5, 5, 40, 40]], [1])])
    assert "loss_trl" not in losses
    sum(losses.values()).backward()
    temporal = {n: p.grad for n, p in model.named_parameters() if n.startswith("temporal.")}
    assert not [name for name, grad in temporal.items() if grad is None]
    assert temporal["temporal.aggregators.reduction.offset.weight"].abs().max() > 0

    torch.nn.init.normal_(model.temporal.aggregators["reduction"].offset.weight, std=0.1)
    model.eval()
    with torch.no_grad():
        for t in range(4):
            got = model([window_sample(clip, t, (-2, -1, 1, 2), streaming_from=max(t - 1, 0))])
        model.temporal.streaming, model.temporal.pairs_per_chunk = False, 3
        expected = model([window_sample(clip, 3, (-2, -1, 1, 2))])
    a, b = got[0]["instances"], expected[0]["instances"]
    torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-4)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=0, atol=1e-2)


def test_its_flow_cannot_be_carried():
    opts = ("MODEL.IFF.AGGREGATOR", "DeformableAggregator", "MODEL.IFF.FLOW.LEVEL", "reduction")
    with pytest.raises(ValueError, match="DeformableAggregator predicts no flow"):
        build(tiny_cfg(*opts))


def test_without_refs_every_parameter_has_a_gradient():
    """Distributed training stops at a weight without one."""
    model = aggregator().train()
    key = torch.randn(1, 6, 5, 4)
    fuse(model, key, key[:0]).feature.sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
