"""The operators in standard form against loops in float64, and in programs of any size."""

from __future__ import annotations

import math

import pytest
import torch
from torch.export import Dim

from iff_detectron2.layers import flow_warp, local_correlation, warp_and_aggregate
from iff_detectron2.layers.standard_forms import (
    STANDARD_FORMS,
    aggregation_form,
    correlation_form,
    warp_form,
)

OPERATORS = ("local_correlation", "flow_warp", "warp_and_aggregate")
SIZES = [(1, 1), (1, 5), (6, 4)]


def correlation_loop(x1, x2, reach, stride):
    """Eq. 2, read off cell by cell."""
    count, channels, height, width = x2.shape
    steps = range(-reach, reach + 1, stride)
    out = torch.zeros(count, len(steps) ** 2, height, width, dtype=torch.float64)
    for n in range(count):
        key = x1[n if len(x1) > 1 else 0].double()
        for k, (dy, dx) in enumerate((dy, dx) for dy in steps for dx in steps):
            for y in range(height):
                for x in range(width):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        other = x2[n, :, y + dy, x + dx].double()
                        out[n, k, y, x] = key[:, y, x] @ other / channels
    return out


def warp_loop(x, flow):
    """Eq. 1, read off cell by cell."""
    count, _, height, width = x.shape
    out = torch.zeros(x.shape, dtype=torch.float64)
    for n in range(count):
        for row in range(height):
            for column in range(width):
                px = column + flow[n, 0, row, column].item()
                py = row + flow[n, 1, row, column].item()
                for y in (math.floor(py), math.floor(py) + 1):
                    for z in (math.floor(px), math.floor(px) + 1):
                        if 0 <= y < height and 0 <= z < width:
                            weight = (1 - abs(px - z)) * (1 - abs(py - y))
                            out[n, :, row, column] += weight * x[n, :, y, z].double()
    return out


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("keys", "refs", "reach", "stride"), [(1, 3, 4, 2), (2, 2, 3, 3)])
def test_correlation(size, keys, refs, reach, stride):
    x1, x2 = torch.randn(keys, 5, *size), torch.randn(refs, 5, *size)
    expected = correlation_loop(x1, x2, reach, stride)
    torch.testing.assert_close(
        correlation_form(x1, x2, reach, stride).double(), expected, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_warp(size):
    x, flow = torch.randn(2, 3, *size), 3 * torch.randn(2, 2, *size)
    expected = warp_loop(x, flow)
    torch.testing.assert_close(warp_form(x, flow).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("with_key", [True, False])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_aggregation(size, with_key):
    features, embeddings = torch.randn(3, 4, *size), torch.randn(3, 6, *size)
    flow, key_embedding = torch.randn(3, 2, *size), torch.randn(1, 6, *size)
    key = torch.randn(1, 4, *size) if with_key else None
    frames, embedded = warp_loop(features, flow), warp_loop(embeddings, flow)
    own = key_embedding.double()
    if key is not None:
        frames, embedded = torch.cat((frames, key.double())), torch.cat((embedded, own))
    cosine = torch.nn.functional.cosine_similarity(embedded, own, dim=1, eps=1e-8)
    expected = (cosine.softmax(0)[:, None] * frames).sum(0, keepdim=True)
    got = aggregation_form([features[:2], features[2:]], [embeddings], flow, key_embedding, key)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5)


class Pipeline(torch.nn.Module):
    """All three operators in a row."""

    def forward(self, key, refs):
        flow = local_correlation(key, refs, 2, 2)[:, :2]
        warped = flow_warp(refs, flow)
        return warp_and_aggregate(warped, refs, flow, key, key)


def test_a_program_of_any_size_holds_them_and_can_be_rid_of_them():
    part = Pipeline()
    free = ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC}, {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC})
    example = torch.randn(1, 4, 6, 5), torch.randn(3, 4, 6, 5)
    with torch.no_grad():
        ours = torch.export.export(part, example, dynamic_shapes=free, strict=False)
        standard = ours.run_decompositions(STANDARD_FORMS)
        targets = {str(node.target) for node in ours.graph.nodes}
        assert {f"iff_detectron2.{n}.default" for n in OPERATORS} <= targets
        assert not [n for n in standard.graph.nodes if "iff_detectron2" in str(n.target)]
        for count, height, width in ((3, 6, 5), (2, 9, 4), (7, 3, 8)):
            given = torch.randn(1, 4, height, width), torch.randn(count, 4, height, width)
            assert torch.equal(ours.module()(*given), part(*given))
            torch.testing.assert_close(standard.module()(*given), part(*given), rtol=0, atol=1e-5)
