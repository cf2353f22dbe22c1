"""The operators on a GPU: against float64, bit-equal from run to run, streams, graphs, sizes."""

from __future__ import annotations

import pytest
import torch

from iff_detectron2.layers import (
    flow_warp,
    local_correlation,
    ps_roi_pool,
    warp_and_aggregate,
)
from iff_detectron2.layers.aggregation import warp_and_aggregate_reference
from iff_detectron2.layers.backend import KERNELS_VARIABLE, use_triton

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]

# Relative to outputs of about 1 / sqrt(C) and gradients of about 11 / C; half types round once.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
FORMATS = [torch.contiguous_format, torch.channels_last]
SHAPES = [
    (1, 2, 512, 38, 63, 10, 2),
    (2, 2, 64, 63, 38, 10, 2),
    (1, 3, 20, 9, 13, 4, 2),
    (2, 2, 33, 7, 5, 6, 3),
    (1, 1, 16, 1, 1, 2, 1),
    (1, 2, 8, 4, 40, 3, 1),
    (1, 1, 8, 20, 28, 0, 2),
    (1, 1, 8, 50, 50, 32, 2),
]


def normal(*shape, dtype=torch.float32, memory_format=torch.contiguous_format):
    x = torch.randn(shape, device="cuda").to(dtype)
    return x.contiguous(memory_format=memory_format)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_correlation_against_float64(shape, dtype, memory_format):
    key_batch, batch, channels, height, width, displacement, stride = shape
    x1 = normal(key_batch, channels, height, width, dtype=dtype, memory_format=memory_format)
    x2 = normal(batch, channels, height, width, dtype=dtype, memory_format=memory_format)
    assert use_triton(x1, x2)
    exact = [x.double().cpu().requires_grad_() for x in (x1, x2)]
    expected = local_correlation(*exact, displacement, stride)
    x1.requires_grad_()
    x2.requires_grad_()
    out = local_correlation(x1, x2, displacement, stride)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=memory_format)
    weights = torch.randn_like(out)
    grads = torch.autograd.grad(out, (x1, x2), weights)
    expected_grads = torch.autograd.grad(expected, exact, weights.double().cpu())
    for actual, wanted in zip((out, *grads), (expected, *expected_grads), strict=True):
        scale = wanted.abs().max().item()
        torch.testing.assert_close(
            actual.double().cpu(), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale
        )


def test_tf32_is_used_only_where_it_is_allowed(monkeypatch):
    x1, x2 = normal(1, 512, 20, 28), normal(2, 512, 20, 28)
    expected = local_correlation(x1.double(), x2.double())
    errors = {}
    for allowed in (False, True):
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", allowed)
        errors[allowed] = (local_correlation(x1, x2) - expected).abs().max().item()
    assert errors[False] < 1e-6
    assert errors[False] < errors[True] < 1e-3


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_bit_equal_over_ten_runs(dtype):
    x1 = normal(1, 256, 38, 63, dtype=dtype).requires_grad_()
    x2 = normal(8, 256, 38, 63, dtype=dtype).requires_grad_()
    first = local_correlation(x1, x2)
    weights = torch.randn_like(first)
    grads = torch.autograd.grad(first, (x1, x2), weights)
    for _ in range(10):
        again = local_correlation(x1, x2)
        assert torch.equal(again, first)
        for a, b in zip(torch.autograd.grad(again, (x1, x2), weights), grads, strict=True):
            assert torch.equal(a, b)


def test_double_backward():
    x1 = normal(1, 3, 5, 6, dtype=torch.float64).requires_grad_()
    x2 = normal(2, 3, 5, 6, dtype=torch.float64).requires_grad_()

    def run(a, b):
        return local_correlation(a, b, 2, 1)

    assert torch.autograd.gradcheck(run, (x1, x2), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x1, x2), fast_mode=True)


def test_operators_keep_their_contract():
    ops = torch.ops.iff_detectron2
    x1, x2, grad = normal(1, 8, 5, 6), normal(3, 8, 5, 6), normal(3, 9, 5, 6)
    for x in (x1, x2, grad):
        x.requires_grad_()
    torch.library.opcheck(ops.local_correlation.default, (x1, x2, 2, 2))
    torch.library.opcheck(ops.local_correlation_grad1.default, (grad, x2, 2, 2, True))
    torch.library.opcheck(ops.local_correlation_grad2.default, (grad, x1, 2, 2))
    inputs = [[x] for x in aggregation_inputs(3, 8, 4, 5, 6, torch.float32)]
    inputs = [*inputs[:2], *(x for (x,) in inputs[2:])]
    torch.library.opcheck(ops.warp_and_aggregate.default, inputs)


def test_compiles_without_a_graph_break():
    x1, x2 = normal(1, 16, 20, 28).requires_grad_(), normal(2, 16, 20, 28)

    def loss(a, b):
        return local_correlation(a, b).square().sum()

    compiled = torch.compile(loss, fullgraph=True)
    (expected,) = torch.autograd.grad(loss(x1, x2), x1)
    (actual,) = torch.autograd.grad(compiled(x1, x2), x1)
    torch.testing.assert_close(actual, expected)


def test_no_samples():
    x1 = normal(1, 8, 5, 6).requires_grad_()
    out = local_correlation(x1, normal(1, 8, 5, 6)[:0], 2, 2)
    assert out.shape == (0, 9, 5, 6)
    out.sum().backward()
    assert torch.equal(x1.grad, torch.zeros_like(x1))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20, 40])
def test_any_number_of_refs(count):
    x1, x2 = normal(1, 64, 20, 28).requires_grad_(), normal(count, 64, 20, 28).requires_grad_()
    exact = [x.detach().double().requires_grad_() for x in (x1, x2)]
    out, expected = local_correlation(x1, x2), local_correlation(*exact)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=2e-6)
    weights = torch.randn_like(out)
    grads = torch.autograd.grad(out, (x1, x2), weights)
    exact_grads = torch.autograd.grad(expected, exact, weights.double())
    # The key's gradient is a sum over the neighbours.
    for actual, wanted, terms in zip(grads, exact_grads, (count, 1), strict=True):
        torch.testing.assert_close(actual.double(), wanted, rtol=0, atol=2e-6 * terms)


def test_non_default_stream():
    x1, x2 = normal(1, 64, 38, 63), normal(4, 64, 38, 63)
    expected = local_correlation(x1, x2)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        x3 = x2 * 1
        out = local_correlation(x1, x3)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(out, expected)


def test_cuda_graph_capture():
    x1, x2 = normal(1, 64, 20, 28), normal(4, 64, 20, 28)
    inputs = aggregation_inputs(4, 64, 32, 20, 28, torch.float32)
    local_correlation(x1, x2), warp_and_aggregate(*inputs)  # compiles outside of the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        correlation, fused = local_correlation(x1, x2), warp_and_aggregate(*inputs)
    x2.normal_()
    inputs[0].normal_()
    graph.replay()
    assert torch.equal(correlation, local_correlation(x1, x2))
    assert torch.equal(fused, warp_and_aggregate(*inputs))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
def test_second_device():
    x1, x2 = normal(1, 16, 9, 9), normal(2, 16, 9, 9)
    out = local_correlation(x1.to("cuda:1"), x2.to("cuda:1"), 4, 2)
    assert out.device == torch.device("cuda:1")
    assert torch.equal(out.to("cuda:0"), local_correlation(x1, x2, 4, 2))


def test_plain_pytorch_on_the_gpu(monkeypatch):
    x1, x2 = normal(1, 32, 9, 20), normal(3, 32, 9, 20)
    inputs = aggregation_inputs(3, 32, 16, 9, 20, torch.float32)
    kernels = local_correlation(x1, x2), warp_and_aggregate(*inputs)
    monkeypatch.setenv(KERNELS_VARIABLE, "0")
    assert not use_triton(x1)
    plain = local_correlation(x1, x2), warp_and_aggregate(*inputs)
    for a, b in zip(kernels, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


def aggregation_inputs(count, channels, embedded, height, width, dtype, memory_format=FORMATS[0]):
    inputs = [
        normal(count, channels, height, width, dtype=dtype),
        normal(count, embedded, height, width, dtype=dtype),
        3 * normal(count, 2, height, width),
        normal(1, embedded, height, width, dtype=dtype),
        normal(1, channels, height, width, dtype=dtype),
    ]
    return [x.contiguous(memory_format=memory_format) for x in inputs]


@pytest.mark.parametrize("count", [1, 2, 20, 40])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("sizes", [(1024, 2048, 38, 63), (48, 20, 9, 13), (5, 7, 1, 1)], ids=str)
def test_aggregation_against_float64(sizes, count, dtype, memory_format):
    inputs = aggregation_inputs(count, *sizes, dtype, memory_format)
    inputs[2][0, :, 0, 0] = 1e6
    assert use_triton(*inputs)
    expected = warp_and_aggregate_reference(*(x.double() for x in inputs))
    out = warp_and_aggregate(*inputs)
    assert out.dtype == dtype
    # Coordinates are float32: at column 63 one rounding moves a sample by 4e-6 of a cell.
    tolerance = max(TOLERANCE[dtype], 3e-5)
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
    for _ in range(3):
        assert torch.equal(warp_and_aggregate(*inputs), out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_warp_equals_the_cpu(dtype):
    x, flow = normal(3, 17, 20, 28, dtype=dtype), 3 * normal(3, 2, 20, 28, dtype=dtype)
    assert torch.equal(flow_warp(x, torch.zeros_like(flow)), x)
    tensors = [t.requires_grad_() for t in (x, flow)]
    on_cpu = [t.detach().cpu().double().requires_grad_() for t in tensors]
    out, expected = flow_warp(*tensors), flow_warp(*on_cpu)
    weights = torch.randn_like(out)
    grads = torch.autograd.grad(out, tensors, weights)
    expected_grads = torch.autograd.grad(expected, on_cpu, weights.cpu().double())
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 3e-2}[dtype]
    for actual, wanted in zip((out, *grads), (expected, *expected_grads), strict=True):
        torch.testing.assert_close(actual.cpu().double(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_pooling_equals_the_cpu(dtype):
    x = normal(2, 49 * 3, 20, 28, dtype=dtype).requires_grad_()
    rois = torch.rand(40, 5, device="cuda") * 300
    rois[:, 3:] += rois[:, 1:3]
    rois[:, 0] = torch.arange(40, device="cuda") % 2
    out = ps_roi_pool(x, rois, 7, 1 / 16)
    on_cpu = x.detach().cpu().requires_grad_()
    expected = ps_roi_pool(on_cpu, rois.cpu(), 7, 1 / 16)
    torch.testing.assert_close(out.cpu(), expected)
    weights = torch.randn_like(out)
    (grad,) = torch.autograd.grad(out, x, weights)
    (expected_grad,) = torch.autograd.grad(expected, on_cpu, weights.cpu())
    torch.testing.assert_close(grad.cpu(), expected_grad)
