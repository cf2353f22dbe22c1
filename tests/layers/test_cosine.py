"""The cosine and the fusion over it: values by hand, gradients at vectors without direction."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from iff_detectron2.layers import warp_and_aggregate
from iff_detectron2.layers.aggregation import warp_and_aggregate_reference
from iff_detectron2.layers.cosine import channel_cosine

# Just outside, on and ever so little inside of the line where a warped vector vanishes.
LANDINGS = [-1.0, -1.0 + 2**-24, -1.0 + 1e-6, -1.0 + 1e-5, -1.0 + 1e-4]
BESIDE = -1.0 + 1e-2


def vectors(*rows):
    return torch.tensor(rows, dtype=torch.float64).view(len(rows), -1, 1, 1)


def test_values_by_hand():
    x = vectors([3.0, 4.0], [0.0, 2.0], [-6.0, -8.0], [0.0, 0.0])
    cosine = channel_cosine(x, vectors([3.0, 4.0]))
    torch.testing.assert_close(cosine.flatten(), torch.tensor([1, 0.8, -1, 0]).double())


def test_gradient_is_the_derivative():
    generator = torch.Generator().manual_seed(0)
    x, key = (torch.randn(n, 5, 3, 4, generator=generator).double() for n in (2, 1))
    assert torch.autograd.gradcheck(channel_cosine, (x.requires_grad_(), key.requires_grad_()))
    with torch.no_grad():
        torch.testing.assert_close(channel_cosine(x, key), F.cosine_similarity(x, key, dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12, 1e-9, 3e-7])
@pytest.mark.parametrize("which", ["frame", "key", "both"])
def test_a_vector_without_direction_gets_no_gradient(which, size, dtype):
    """Dead embeddings: the quotient's derivative would be up to 1 / EPS."""
    x, key = torch.ones(1, 4, 2, 2, dtype=dtype), torch.full((1, 4, 2, 2), 2.0, dtype=dtype)
    x[:, 0], key[:, 1] = -1, 3
    x = x * (size if which != "key" else 1)
    key = key * (size if which != "frame" else 1)
    x.requires_grad_(), key.requires_grad_()
    channel_cosine(x, key).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert torch.equal(key.grad, torch.zeros_like(key))


def gradients(function, landing, axis, dtype, seed):
    """Gradient of a random loss to each input, one neighbour landing on the map's edge."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    features, embeddings = normal(1, 3, 4, 5), normal(1, 6, 4, 5)
    key_embedding, key, pull = normal(1, 6, 4, 5), normal(1, 3, 4, 5), normal(1, 3, 4, 5)
    flow = torch.zeros(1, 2, 4, 5)
    # Every cell of the first column (row) lands there; the others stay inside.
    edge = flow[:, axis, :, 0] if axis == 0 else flow[:, axis, 0, :]
    edge.fill_(landing)
    inputs = [x.requires_grad_() for x in (features, embeddings, flow, key_embedding, key)]
    (function(*inputs).float() * pull).sum().backward()
    return [x.grad.double() for x in inputs]


@pytest.mark.parametrize("function", [warp_and_aggregate, warp_and_aggregate_reference])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_gradient_of_the_fusion_explodes_at_the_edge(function, axis, dtype):
    """M1: at x = -1 the gradient to the flow was 1e4 to 1e8 times that just beside it."""
    for seed in range(5):
        beside = gradients(function, BESIDE, axis, dtype, seed)
        for landing in LANDINGS:
            on_edge = gradients(function, landing, axis, dtype, seed)
            for there, near in zip(on_edge, beside, strict=True):
                # The weight of a vanished frame is exp(0) and beside it exp(cosine), at most e
                # apart; twice that is room for the rest.
                assert there.abs().max() <= 2 * math.e * near.abs().max()


@pytest.mark.parametrize("function", [warp_and_aggregate, warp_and_aggregate_reference])
def test_zero_features_and_embeddings_have_finite_gradients(function):
    zeros = [torch.zeros(2, 3, 4, 5), torch.zeros(2, 6, 4, 5), torch.full((2, 2, 4, 5), 0.5)]
    zeros += [torch.zeros(1, 6, 4, 5), torch.zeros(1, 3, 4, 5)]
    inputs = [x.requires_grad_() for x in zeros]
    function(*inputs).sum().backward()
    for x in inputs:
        assert x.grad.abs().max() <= 2
