"""warp_and_aggregate, streamed and step by step, against a float64 loop over locations."""

from __future__ import annotations

import math

import pytest
import torch

from iff_detectron2.layers import warp_and_aggregate
from iff_detectron2.layers.aggregation import warp_and_aggregate_reference

FUNCTIONS = [warp_and_aggregate, warp_and_aggregate_reference]
FORMATS = [torch.contiguous_format, torch.channels_last]


def sample(x, px, py):
    """Bilinear sample of [C, H, W] at one location, zeros outside."""
    value = torch.zeros(x.shape[0], dtype=torch.float64)
    for y in (math.floor(py), math.floor(py) + 1):
        for z in (math.floor(px), math.floor(px) + 1):
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                value += (1 - abs(px - z)) * (1 - abs(py - y)) * x[:, y, z]
    return value


def cosine(a, b):
    norms = a.norm() * b.norm()
    return (a @ b / norms).item() if norms > 0 else 0.0


def loop(features, embeddings, flow, key_embedding, key_features=None):
    """Return the definition, location by location."""
    features, embeddings, flow = features.double(), embeddings.double(), flow.double()
    key_embedding = key_embedding.double()
    count, _, height, width = features.shape
    out = torch.zeros(1, *features.shape[1:], dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            key = key_embedding[0, :, row, column]
            values, cosines = [], []
            for t in range(count):
                px = column + flow[t, 0, row, column].item()
                py = row + flow[t, 1, row, column].item()
                values.append(sample(features[t], px, py))
                cosines.append(cosine(sample(embeddings[t], px, py), key))
            if key_features is not None:
                values.append(key_features[0, :, row, column].double())
                cosines.append(cosine(key, key))
            shares = [math.exp(c) / sum(math.exp(d) for d in cosines) for c in cosines]
            out[0, :, row, column] = sum(s * v for s, v in zip(shares, values, strict=True))
    return out


def make(count=3, channels=5, embedded=4, height=6, width=7, dtype=torch.float64, spread=3.0):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return (
        normal(count, channels, height, width),
        normal(count, embedded, height, width),
        spread * normal(count, 2, height, width),
        normal(1, embedded, height, width),
        normal(1, channels, height, width),
    )


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("with_key", [True, False])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.float16, 2e-3)]
)
def test_equals_the_loop(function, memory_format, with_key, dtype, tolerance):
    inputs = make(dtype=dtype)
    inputs = inputs if with_key else inputs[:4]
    expected = loop(*inputs)
    inputs = [x.contiguous(memory_format=memory_format) for x in inputs]
    out = function(*inputs)
    assert out.dtype == dtype
    assert out.shape == (1, 5, 6, 7)
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (23, 1), (25, 41)], ids=str)
def test_sizes_and_chunks(size):
    """25 x 41 locations are more than two chunks of embeddings."""
    inputs = make(2, 3, 4, *size)
    torch.testing.assert_close(
        warp_and_aggregate(*inputs), warp_and_aggregate_reference(*inputs), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_flow_that_leaves_the_image_gives_no_nan(function, memory_format):
    features, embeddings, flow, key_embedding, key = make(2)
    features = features.contiguous(memory_format=memory_format)
    flow = torch.full_like(flow, 1e6)
    out = function(features, embeddings, flow, key_embedding)
    assert torch.equal(out, torch.zeros_like(out))
    # Two zero maps with cosine 0 and the key with cosine 1.
    out = function(features, embeddings, flow, key_embedding, key)
    torch.testing.assert_close(out, key * math.e / (math.e + 2))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_zero_embeddings_give_no_nan(function):
    features, embeddings, flow, key_embedding, key = make(2, spread=0.0)
    out = function(features, embeddings * 0, flow, key_embedding * 0, key)
    torch.testing.assert_close(out, torch.cat((features, key)).mean(0, keepdim=True))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_static_clip_is_left_unchanged(function):
    features, embeddings, flow, _, _ = make(1, dtype=torch.float32)
    still = [x.expand(4, -1, -1, -1) for x in (features, embeddings, flow * 0)]
    out = function(*still, embeddings, features)
    torch.testing.assert_close(out, features, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_no_ref_returns_the_key(memory_format):
    _, _, _, key_embedding, key = make(dtype=torch.float32)
    none = torch.zeros(0, 5, 6, 7).contiguous(memory_format=memory_format)
    out = warp_and_aggregate(
        none, torch.zeros(0, 4, 6, 7), torch.zeros(0, 2, 6, 7), key_embedding, key
    )
    torch.testing.assert_close(out, key, rtol=1e-6, atol=0)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("sizes", [[1, 1, 1], [2, 0, 1], [0, 3]])
def test_refs_in_parts(memory_format, sizes):
    features, embeddings, *rest = (x.contiguous(memory_format=memory_format) for x in make())
    whole = warp_and_aggregate(features, embeddings, *rest)
    parts = features.split(sizes), embeddings.split(sizes)
    torch.testing.assert_close(warp_and_aggregate(*parts, *rest), whole, rtol=1e-12, atol=1e-12)
    for x in parts[0]:
        x.requires_grad_()
    with_gradient = warp_and_aggregate(*parts, *rest)
    assert with_gradient.requires_grad
    torch.testing.assert_close(with_gradient, whole, rtol=1e-12, atol=1e-12)


def test_order_of_the_refs_does_not_matter():
    features, embeddings, flow, key_embedding, key = make()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        warp_and_aggregate(features[order], embeddings[order], flow[order], key_embedding, key),
        warp_and_aggregate(features, embeddings, flow, key_embedding, key),
    )


def test_differentiable_in_every_input():
    inputs = make(2, 2, 3, 3, 4, spread=0.3)
    assert torch.autograd.gradcheck(
        warp_and_aggregate, [x.requires_grad_() for x in inputs], fast_mode=True
    )


def test_streams_without_gradients():
    """Without gradients the streamed operator runs, also for inputs that could have one."""
    inputs = [x.requires_grad_() for x in make()]
    with torch.no_grad():
        out = warp_and_aggregate(*inputs)
    assert not out.requires_grad
    with torch.inference_mode():
        assert torch.equal(warp_and_aggregate(*inputs), out)
        inside = [x.clone() for x in inputs]
        assert torch.equal(warp_and_aggregate(*inside), out)
    assert warp_and_aggregate(*inputs).requires_grad


@pytest.mark.parametrize("memory_format", FORMATS)
def test_memory_format_is_kept(memory_format):
    inputs = [x.contiguous(memory_format=memory_format) for x in make()]
    assert warp_and_aggregate(*inputs).is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_opcheck(memory_format):
    inputs = [x.contiguous(memory_format=memory_format) for x in make(dtype=torch.float32)]
    operator = torch.ops.iff_detectron2.warp_and_aggregate.default
    features, embeddings, *rest = inputs
    torch.library.opcheck(operator, ([features], [embeddings], *rest))
    torch.library.opcheck(operator, (features.split(1), embeddings.split(1), *rest[:2], None))


def test_autocast_does_not_lower_the_accumulation():
    inputs = make(dtype=torch.float32)
    plain = warp_and_aggregate(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(warp_and_aggregate(*inputs), plain)
        assert warp_and_aggregate_reference(*inputs).dtype == torch.float32


F, E, M, KE, KF = make(2, 3, 4, 5, 6, dtype=torch.float32)


@pytest.mark.parametrize(
    ("args", "error", "match"),
    [
        ((F.int(), E, M, KE), TypeError, "features.*int32"),
        ((F, E, M.numpy(), KE), TypeError, "flow.*ndarray"),
        ((F, E, M, KE, KF.long()), TypeError, "key_features.*int64"),
        ((F[0], E, M, KE), ValueError, r"features.*\(3, 5, 6\)"),
        ((F, E[:1], M, KE), ValueError, r"embeddings.*\(1, 4, 5, 6\)"),
        ((F, E, M[:, :1], KE), ValueError, r"flow.*\(2, 1, 5, 6\)"),
        ((F, E, M, KE[:, :3]), ValueError, r"key_embedding.*\(1, 3, 5, 6\)"),
        ((F, E, M, KE, KF.expand(2, -1, -1, -1)), ValueError, r"key_features.*\(2, 3, 5, 6\)"),
        ((F, E, M.to("meta"), KE), ValueError, "flow must be on cpu, got meta"),
        ((F[:0], E[:0], M[:0], KE), ValueError, "nothing to fuse"),
        (([], [], M[:0], KE, KF), ValueError, "at least one part"),
        ((F.split(1), E, M, KE), ValueError, "embeddings must have 2 parts, got 1"),
        (([F[:1], F[1:].half()], E.split(1), M, KE), TypeError, "one type, got .*float16"),
        ((F, E[:, :0], M, KE[:, :0]), ValueError, "embeddings must have channels"),
    ],
)
def test_bad_arguments(args, error, match):
    with pytest.raises(error, match=match):
        warp_and_aggregate(*args)
