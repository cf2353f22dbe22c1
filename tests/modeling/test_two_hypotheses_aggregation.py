import math

import pytest
import torch
from torch import nn

from iff_detectron2.modeling import (
    Embedding,
    FlowEstimator,
    FlowGuidedAggregator,
    TwoHypothesesAggregator,
)


class ConstantFlow(FlowEstimator):
    def __init__(self, dx: float):
        super().__init__()
        self.dx = dx

    def encode(self, features, images):
        return features[:, :1]

    def forward(self, key, refs):
        flow = refs.new_zeros(len(refs), 2, *refs.shape[-2:])
        flow[:, 0] = self.dx
        return flow


def fuse(module, key, refs):
    image = torch.zeros(1, 3, 1, 1)
    codes = [module.encode(x, image.expand(len(x), -1, -1, -1)) for x in (key, refs)]
    return module(*codes, offsets=range(1, len(refs) + 1)).feature


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_with_zero_flow_it_is_the_papers_aggregation(before, grad):
    embedding = Embedding(4, 6, 5)
    key, refs = torch.randn(1, 4, 5, 7), torch.randn(3, 4, 5, 7)
    options = {"flow_estimator": ConstantFlow(0.0), "embedding": embedding}
    kinds = TwoHypothesesAggregator, FlowGuidedAggregator
    with torch.set_grad_enabled(grad):
        ours, papers = (
            fuse(kind(**options, embed_before_warp=before).eval(), key, refs) for kind in kinds
        )
    torch.testing.assert_close(ours, papers)


def test_weights_by_hand():
    """Cell 0 of a row: moved by a cell its reference is like the key (1), unmoved unlike (-1).

    Cell 1 looks beyond the row, where the moved map is zero: cosine 0; unmoved is like it.
    """
    key = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2)  # (1, 0) and (1, 0)
    ref = torch.tensor([[-1.0, 3.0], [0.0, 0.0]]).view(1, 2, 1, 2)  # (-1, 0) and (3, 0)
    module = TwoHypothesesAggregator(flow_estimator=ConstantFlow(1.0), embedding=nn.Identity())
    got = fuse(module.eval(), key, ref)
    # Cell 0: key (cosine 1), moved 3 (cosine 1), still -1 (cosine -1); each half of a frame.
    e = math.e
    cell0 = (e * 1 + 0.5 * e * 3 + 0.5 / e * -1) / (e + 0.5 * e + 0.5 / e)
    # Cell 1: key 1 (cosine 1), moved nothing (cosine 0), still 3 (cosine 1).
    cell1 = (e * 1 + 0.5 * 1 * 0 + 0.5 * e * 3) / (e + 0.5 + 0.5 * e)
    torch.testing.assert_close(got[0, 0, 0], torch.tensor([cell0, cell1]))
    torch.testing.assert_close(got[0, 1, 0], torch.zeros(2))


def test_gradients_against_differences():
    torch.manual_seed(0)
    module = TwoHypothesesAggregator(
        flow_estimator=ConstantFlow(0.3), embedding=nn.Conv2d(3, 4, 1)
    ).double()
    key, refs = (torch.randn(n, 3, 4, 5).double().requires_grad_() for n in (1, 2))
    # The cosines are taken in float32.
    assert torch.autograd.gradcheck(
        lambda k, r: fuse(module, k, r), (key, refs), eps=1e-2, atol=2e-2, rtol=2e-2
    )


def test_what_moved_wins_over_what_only_stands_there():
    """A reference that moved by a cell: with the true flow the fused map is nearer to the key's."""
    torch.manual_seed(0)
    wide = torch.randn(1, 8, 6, 12)
    key, ref = wide[..., 2:9], wide[..., 1:8]
    errors = {}
    for dx in (1.0, 0.0):
        module = TwoHypothesesAggregator(flow_estimator=ConstantFlow(dx), embedding=nn.Identity())
        fused = fuse(module.eval(), key, ref)
        errors[dx] = (fused - key)[..., :-1].norm()
    assert errors[1.0] < 0.7 * errors[0.0]


def test_it_takes_the_weights_of_an_iff_net():
    options = {"flow_estimator": ConstantFlow(0.0), "embedding": Embedding(3, 4, 5)}
    kinds = TwoHypothesesAggregator, FlowGuidedAggregator
    ours, papers = (list(kind(**options).state_dict()) for kind in kinds)
    assert ours == papers
