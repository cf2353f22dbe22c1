"""local_correlation against a float64 loop, its gradients, its identities and its registration."""

from __future__ import annotations

import pytest
import torch

from iff_detectron2.layers import local_correlation

OPS = torch.ops.iff_detectron2


def reference(x1, x2, max_displacement, stride):
    """Eq. 2 read off literally: one padded slice a displacement, float64."""
    x1, x2 = x1.double(), x2.double()
    batch, channels, height, width = x2.shape
    margin = max_displacement
    padded = x2.new_zeros(batch, channels, height + 2 * margin, width + 2 * margin)
    padded[:, :, margin : margin + height, margin : margin + width] = x2
    steps = range(-max_displacement, max_displacement + 1, stride)
    maps = []
    for dy in steps:
        for dx in steps:
            y, x = margin + dy, margin + dx
            maps.append((x1 * padded[:, :, y : y + height, x : x + width]).sum(1) / channels)
    return torch.stack(maps, 1)


def features(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# (key batch, batch, C, H, W, D, s): odd, flat and single-cell maps, maps smaller than D, s of 1 and
# 3, a stride that does not divide the map, D = 0, batch 0, columns around the tile width of 8.
SHAPES = [
    (1, 3, 4, 9, 13, 4, 2),
    (3, 3, 4, 9, 13, 10, 2),
    (1, 1, 5, 1, 1, 2, 1),
    (2, 2, 3, 7, 5, 6, 3),
    (2, 2, 1, 2, 40, 6, 3),
    (1, 2, 3, 40, 2, 4, 2),
    (2, 2, 3, 4, 4, 0, 1),
    (2, 2, 3, 4, 4, 0, 5),
    (1, 1, 2, 3, 2, 10, 5),
    (1, 0, 3, 4, 4, 2, 1),
    (0, 0, 3, 4, 4, 2, 1),
    (1, 2, 6, 3, 17, 3, 1),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_forward_and_gradients_equal_the_float64_loop(shape, channels_last):
    key_batch, batch, channels, height, width, displacement, stride = shape
    x1 = features(key_batch, channels, height, width)
    x2 = features(batch, channels, height, width, seed=1)
    if channels_last:
        x1 = x1.contiguous(memory_format=torch.channels_last)
        x2 = x2.contiguous(memory_format=torch.channels_last)
    x1.requires_grad_()
    x2.requires_grad_()
    out = local_correlation(x1, x2, displacement, stride)
    expected = reference(x1, x2, displacement, stride)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    weights = features(*expected.shape, seed=2)
    grads = torch.autograd.grad(out, (x1, x2), weights)
    expected_grads = torch.autograd.grad(expected, (x1, x2), weights)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)]
)
def test_types_round_once(dtype, tolerance):
    x1, x2 = features(1, 96, 9, 11, dtype=dtype), features(2, 96, 9, 11, seed=1, dtype=dtype)
    x1.requires_grad_()
    x2.requires_grad_()
    out = local_correlation(x1, x2, 4, 2)
    assert out.dtype == dtype
    expected = reference(x1, x2, 4, 2)
    # One rounding of the exact value, nothing more: relative to the value itself.
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=1e-6)
    weights = features(*out.shape, seed=2, dtype=dtype)
    grads = torch.autograd.grad(out, (x1, x2), weights)
    expected_grads = torch.autograd.grad(expected, (x1, x2), weights.double())
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, expected_grad, rtol=tolerance, atol=1e-5)


def test_paper_size_in_float32():
    x1, x2 = features(1, 512, 38, 63, dtype=torch.float32), features(1, 512, 38, 63, seed=1).float()
    out = local_correlation(x1, x2)
    assert out.shape == (1, 121, 38, 63)
    torch.testing.assert_close(out.double(), reference(x1, x2, 10, 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_stays_finite_where_a_half_sum_overflows(dtype):
    x = torch.full((1, 512, 3, 3), 12.0, dtype=dtype)  # 512 * 12 * 12 > 65504
    out = local_correlation(x, x, 2, 2)
    assert out[0, 4].eq(144).all()
    assert out.isfinite().all()


@pytest.mark.parametrize("displacement", [(4, 2), (2, 1), (6, 3), (10, 2)], ids=str)
@pytest.mark.parametrize("key_batch", [1, 2])
def test_gradcheck_and_gradgradcheck(displacement, key_batch):
    x1 = features(key_batch, 2, 4, 5).requires_grad_()
    x2 = features(2, 2, 4, 5, seed=1).requires_grad_()

    def run(a, b):
        return local_correlation(a, b, *displacement)

    assert torch.autograd.gradcheck(run, (x1, x2), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x1, x2), fast_mode=True)


def test_gradients_of_the_gradient_operators():
    """Third order: the closed set of three operators is differentiable to any order."""
    x1, x2 = features(1, 2, 3, 4).requires_grad_(), features(2, 2, 3, 4, seed=1).requires_grad_()
    grad = features(2, 9, 3, 4, seed=2).requires_grad_()

    def grad1(g, b):
        return OPS.local_correlation_grad1(g, b, 2, 2, True)

    def grad2(g, a):
        return OPS.local_correlation_grad2(g, a, 2, 2)

    assert torch.autograd.gradgradcheck(grad1, (grad, x2), fast_mode=True)
    assert torch.autograd.gradgradcheck(grad2, (grad, x1), fast_mode=True)


@pytest.mark.parametrize("key_batch", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(key_batch, memory_format, requires_grad):
    def make(*shape):
        x = torch.randn(*shape).contiguous(memory_format=memory_format)
        return x.requires_grad_(requires_grad)

    x1, x2, grad = make(key_batch, 4, 5, 6), make(3, 4, 5, 6), make(3, 9, 5, 6)
    torch.library.opcheck(OPS.local_correlation.default, (x1, x2, 2, 2))
    shared = key_batch == 1
    torch.library.opcheck(OPS.local_correlation_grad1.default, (grad, x2, 2, 2, shared))
    torch.library.opcheck(OPS.local_correlation_grad2.default, (grad, x1, 2, 2))


@pytest.mark.slow
def test_compiles_without_a_graph_break():
    x1, x2 = torch.randn(1, 4, 6, 7, requires_grad=True), torch.randn(2, 4, 6, 7)

    def loss(a, b):
        return local_correlation(a, b, 4, 2).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (expected,) = torch.autograd.grad(loss(x1, x2), x1)
    (actual,) = torch.autograd.grad(compiled(x1, x2), x1)
    torch.testing.assert_close(actual, expected)


def test_centre_of_the_self_correlation_is_the_mean_square():
    x = features(2, 6, 5, 7)
    out = local_correlation(x, x, 4, 2)
    torch.testing.assert_close(out[:, 12], x.square().mean(1))


def test_swapping_the_maps_mirrors_displacement_and_location():
    x1, x2 = features(1, 5, 8, 9), features(1, 5, 8, 9, seed=1)
    forward, backward = local_correlation(x1, x2, 2, 1), local_correlation(x2, x1, 2, 1)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            there = forward[0, (dy + 2) * 5 + dx + 2]
            back = backward[0, (-dy + 2) * 5 - dx + 2]
            ys, xs = slice(max(0, -dy), 8 - max(0, dy)), slice(max(0, -dx), 9 - max(0, dx))
            ys2, xs2 = slice(max(0, dy), 8 + min(0, dy)), slice(max(0, dx), 9 + min(0, dx))
            torch.testing.assert_close(there[ys, xs], back[ys2, xs2])


def test_bilinear():
    a, b, c = features(1, 3, 5, 6), features(1, 3, 5, 6, seed=1), features(1, 3, 5, 6, seed=2)
    whole = local_correlation(2 * a + b, c, 2, 2)
    torch.testing.assert_close(
        whole, 2 * local_correlation(a, c, 2, 2) + local_correlation(b, c, 2, 2)
    )
    whole = local_correlation(c, 2 * a + b, 2, 2)
    torch.testing.assert_close(
        whole, 2 * local_correlation(c, a, 2, 2) + local_correlation(c, b, 2, 2)
    )


def test_shifting_both_maps_shifts_the_result():
    x1, x2 = features(1, 3, 12, 14), features(1, 3, 12, 14, seed=1)
    out = local_correlation(x1, x2, 2, 1)
    moved = local_correlation(x1.roll((1, 3), (2, 3)), x2.roll((1, 3), (2, 3)), 2, 1)
    torch.testing.assert_close(moved[:, :, 3:-2, 5:-2], out[:, :, 2:-3, 2:-5])


def test_channel_order_is_dy_outer_dx_inner():
    x1, x2 = torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
    x1[0, 0, 4, 4] = 1
    x2[0, 0, 2, 8] = 1  # dy = -2, dx = +4
    out = local_correlation(x1, x2, 4, 2)
    assert out.nonzero().tolist() == [[0, 1 * 5 + 4, 4, 4]]


def test_shared_key_equals_a_repeated_key_and_stays_one():
    x1, x2 = features(1, 3, 6, 7).requires_grad_(), features(4, 3, 6, 7, seed=1)
    repeated = x1.detach().repeat(4, 1, 1, 1).requires_grad_()
    shared, full = local_correlation(x1, x2, 2, 2), local_correlation(repeated, x2, 2, 2)
    assert torch.equal(shared, full)
    weights = features(*full.shape, seed=2)
    (grad,) = torch.autograd.grad(shared, x1, weights)
    (full_grad,) = torch.autograd.grad(full, repeated, weights)
    torch.testing.assert_close(grad, full_grad.sum(0, keepdim=True))


def test_expanded_and_sliced_inputs():
    base = features(2, 3, 8, 9)
    x2 = features(2, 3, 8, 9, seed=1)
    expanded = base[:1].expand(2, -1, -1, -1)
    assert torch.equal(local_correlation(expanded, x2, 2, 2), local_correlation(base[:1], x2, 2, 2))
    sliced = base[:, :, 1:-1, ::2]
    other = x2[:, :, 1:-1, ::2]
    expected = local_correlation(sliced.contiguous(), other.contiguous(), 2, 2)
    assert torch.equal(local_correlation(sliced, other, 2, 2), expected)


def test_memory_format_follows_the_ref():
    x = torch.randn(2, 4, 5, 6)
    assert local_correlation(x, x, 2, 2).is_contiguous()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    out = local_correlation(x, x, 2, 2)
    assert out.is_contiguous(memory_format=torch.channels_last)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert grad.is_contiguous(memory_format=torch.channels_last)


def test_only_the_wanted_gradient_is_computed():
    x1, x2 = torch.randn(1, 3, 4, 5, requires_grad=True), torch.randn(2, 3, 4, 5)
    local_correlation(x1, x2, 2, 2).sum().backward()
    assert x1.grad is not None
    assert x2.grad is None


def test_autocast_does_not_lower_the_accumulation():
    x1, x2 = features(1, 64, 6, 7).float(), features(2, 64, 6, 7, seed=1).float()
    plain = local_correlation(x1, x2, 4, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(local_correlation(x1, x2, 4, 2), plain)


def test_result_does_not_depend_on_the_run():
    x1 = torch.randn(1, 32, 9, 20, requires_grad=True)
    x2 = torch.randn(3, 32, 9, 20, requires_grad=True)
    first = local_correlation(x1, x2)
    weights = torch.randn_like(first)
    grads = torch.autograd.grad(first, (x1, x2), weights)
    for _ in range(3):
        again = local_correlation(x1, x2)
        assert torch.equal(again, first)
        for a, b in zip(torch.autograd.grad(again, (x1, x2), weights), grads, strict=True):
            assert torch.equal(a, b)


GOOD = torch.zeros(1, 2, 4, 4)


@pytest.mark.parametrize(
    ("args", "error", "match"),
    [
        ((GOOD, GOOD, 10, 3), ValueError, "multiple of stride.*10.*stride=3"),
        ((GOOD, GOOD, -2, 2), ValueError, "max_displacement.*-2"),
        ((GOOD, GOOD, 2, 0), ValueError, "stride.*0"),
        ((GOOD, GOOD, 2, -1), ValueError, "stride.*-1"),
        ((GOOD, GOOD, 2.0, 1), TypeError, "max_displacement.*2.0"),
        ((GOOD, GOOD, 2, True), TypeError, "stride.*True"),
        ((GOOD[0], GOOD, 2, 1), ValueError, r"x1.*\(2, 4, 4\)"),
        ((GOOD, GOOD[0], 2, 1), ValueError, r"x2.*\(2, 4, 4\)"),
        ((GOOD, GOOD.double(), 2, 1), TypeError, "float32.*float64"),
        ((GOOD.int(), GOOD.int(), 2, 1), TypeError, "floating-point.*int32"),
        ((GOOD, GOOD.expand(3, -1, -1, -1)[:, :1], 2, 1), ValueError, r"\(3, 1, 4, 4\)"),
        ((GOOD.expand(2, -1, -1, -1), GOOD.expand(3, -1, -1, -1), 2, 1), ValueError, r"\(2, 2,"),
        ((GOOD, GOOD[:, :, :3], 2, 1), ValueError, r"\(1, 2, 3, 4\)"),
        ((GOOD[:, :0], GOOD[:, :0], 2, 1), ValueError, "at least one channel"),
        ((GOOD, GOOD.to("meta"), 2, 1), ValueError, "one device.*meta"),
        ((GOOD.numpy(), GOOD, 2, 1), TypeError, "x1.*ndarray"),
    ],
)
def test_bad_arguments(args, error, match):
    with pytest.raises(error, match=match):
        local_correlation(*args)
