"""The Triton kernels in Triton's interpreter, against float64; run by test_interpreter.py.

The interpreter replaces the compiler when triton is imported, so this file needs a process of its
own with TRITON_INTERPRET=1. bfloat16 and TF32 do not exist in the interpreter.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from iff_detectron2.kernels import aggregation, correlation

from iff_detectron2.layers import correlation_matmul
from iff_detectron2.layers.aggregation import warp_and_aggregate_reference
from iff_detectron2.layers.cosine import EPS

assert os.environ.get("TRITON_INTERPRET") == "1", "run with TRITON_INTERPRET=1"

FORMATS = [torch.contiguous_format, torch.channels_last]
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3}

# (key batch, batch, C, H, W, radius, stride): maps beside the tile of 4 x 16 cells on every side,
# channels that are no power of two, a map smaller than the displacement, more samples than a sum
# has parts, several blocks of channels.
SHAPES = [
    (1, 2, 20, 9, 13, 2, 2),
    (2, 2, 32, 7, 5, 1, 3),
    (1, 1, 17, 1, 1, 2, 1),
    (1, 3, 5, 4, 40, 1, 2),
    (1, 1, 3, 6, 3, 0, 1),
    (1, 7, 70, 3, 4, 1, 1),
    (1, 1, 150, 2, 3, 1, 2),
]


def poisoned(shape, dtype, memory_format=torch.contiguous_format):
    """Return an output that shows every entry that a kernel leaves out."""
    return torch.full(shape, float("nan"), dtype=dtype).contiguous(memory_format=memory_format)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "memory_format"), [(torch.float32, FORMATS[0]), (torch.float16, FORMATS[1])], ids=str
)
def test_correlation(shape, dtype, memory_format):
    key_batch, batch, channels, height, width, radius, stride = shape
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        values = torch.randn(size, generator=generator).to(dtype)
        return values.contiguous(memory_format=memory_format)

    x1, x2 = normal(key_batch, channels, height, width), normal(batch, channels, height, width)
    grad = normal(batch, (2 * radius + 1) ** 2, height, width)
    runs = [
        ("correlate", (x1, x2), grad.shape),
        ("correlate_grad1", (grad, x2), x1.shape),
        ("correlate_grad2", (grad, x1), x2.shape),
    ]
    for name, inputs, size in runs:
        out = poisoned(size, dtype, memory_format)
        getattr(correlation, name)(*inputs, out, radius, stride)
        expected = torch.empty(size, dtype=torch.float64)
        exact = [x.double() for x in inputs]
        getattr(correlation_matmul, name)(*exact, expected, radius, stride)
        torch.testing.assert_close(
            out.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype], msg=name
        )


def test_correlation_without_samples():
    x1, x2 = torch.randn(1, 3, 4, 5), torch.zeros(0, 3, 4, 5)
    out = torch.zeros(0, 9, 4, 5)
    correlation.correlate(x1, x2, out, 1, 1)
    grad = poisoned((1, 3, 4, 5), torch.float32)
    correlation.correlate_grad1(out, x2, grad, 1, 1)
    assert torch.equal(grad, torch.zeros_like(grad))


def test_half_sum_does_not_overflow():
    x = torch.full((1, 512, 1, 1), 12.0, dtype=torch.float16)
    out = poisoned((1, 1, 1, 1), torch.float16)
    correlation.correlate(x, x, out, 0, 1)
    assert out.item() == 144


@pytest.mark.parametrize("with_key", [True, False])
@pytest.mark.parametrize(
    ("dtype", "memory_format"), [(torch.float32, FORMATS[0]), (torch.float16, FORMATS[1])], ids=str
)
@pytest.mark.parametrize(
    ("count", "channels", "embedded", "height", "width"),
    [(3, 5, 7, 4, 5), (1, 70, 300, 1, 3), (2, 600, 9, 2, 3)],
)
def test_aggregation(count, channels, embedded, height, width, dtype, memory_format, with_key):
    generator = torch.Generator().manual_seed(1)

    def normal(*size):
        values = torch.randn(size, generator=generator).to(dtype)
        return values.contiguous(memory_format=memory_format)

    inputs = [
        normal(count, channels, height, width),
        normal(count, embedded, height, width),
        3 * normal(count, 2, height, width),
        normal(1, embedded, height, width),
        normal(1, channels, height, width) if with_key else None,
    ]
    inputs[2][0, :, 0, 0] = 1000  # out of the map
    out = poisoned((1, channels, height, width), dtype, memory_format)
    aggregation.aggregate(*inputs, out, EPS)
    expected = warp_and_aggregate_reference(*(None if x is None else x.double() for x in inputs))
    torch.testing.assert_close(out.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_a_key_without_refs_is_its_own_result():
    features, embeddings = torch.randn(1, 4, 3, 5), torch.randn(1, 6, 3, 5)
    out = poisoned((1, 4, 3, 5), torch.float32)
    flow = torch.zeros(0, 2, 3, 5)
    aggregation.aggregate(features[:0], embeddings[:0], flow, embeddings, features, out, EPS)
    assert torch.equal(out, features)


def test_the_default_type_of_tensors_does_not_matter():
    features, embeddings = torch.randn(2, 4, 3, 5), torch.randn(2, 6, 3, 5)
    flow, key = torch.randn(2, 2, 3, 5), torch.randn(1, 6, 3, 5)
    expected = poisoned((1, 4, 3, 5), torch.float32)
    aggregation.aggregate(features, embeddings, flow, key, None, expected, EPS)
    out = torch.empty_like(expected)
    torch.set_default_dtype(torch.float16)
    try:
        aggregation.aggregate(features, embeddings, flow, key, None, out, EPS)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("switch", ["allow_tf32", "fp32_precision"])
def test_either_switch_allows_tf32(switch):
    if not hasattr(torch.backends.cuda.matmul, switch):
        pytest.skip(f"this torch has no torch.backends.cuda.matmul.{switch}")
    # In a process of its own: PyTorch does not let the two be mixed.
    value = "True" if switch == "allow_tf32" else "'tf32'"
    code = (
        "import torch; from iff_detectron2.kernels.correlation import arithmetic; "
        "before = arithmetic(torch.float32); "
        f"torch.backends.cuda.matmul.{switch} = {value}; "
        "print(before, arithmetic(torch.float32))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["tf32x3", "tf32"]


def test_zero_flow_and_one_ref_is_the_identity():
    features, embeddings = torch.randn(1, 4, 3, 5), torch.randn(1, 6, 3, 5)
    out = poisoned((1, 4, 3, 5), torch.float32)
    flow = torch.zeros(1, 2, 3, 5)
    aggregation.aggregate(features, embeddings, flow, embeddings, None, out, EPS)
    torch.testing.assert_close(out, features, rtol=1e-6, atol=0)
