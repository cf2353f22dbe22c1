"""Warp, cosine weight, softmax and weighted sum of all neighbours; every map is read once.

One kernel reads the embeddings and leaves a number a neighbour and location, the exponential of
the cosine; the other reads the features. No warped map stands in memory. A program takes a patch of
locations, since locations that lie together sample vectors that lie together. A cosine is at most
1, so that the softmax needs no running maximum.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .memory_format import channels_last, channels_last_target


@triton.jit
def _patch(H, W, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Return row and column of each location of a program's patch and whether it is in the map."""
    across = tl.cdiv(W, COLS)
    k = tl.arange(0, ROWS * COLS)
    row = tl.program_id(0) // across * ROWS + k // COLS
    column = tl.program_id(0) % across * COLS + k % COLS
    return row, column, (row < H) & (column < W)


@triton.jit
def _corner(row, column, weight, H, W):
    """Return the cell number of a corner, clamped into the map, and its weight, zero outside."""
    inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
    row = tl.minimum(tl.maximum(row, 0), H - 1)
    column = tl.minimum(tl.maximum(column, 0), W - 1)
    return row * W + column, tl.where(inside, weight, 0.0)


@triton.jit
def _corners(flow, row, column, present, H, W):
    """Return cells and weights of the four corners around each location plus flow [2, H, W]."""
    p = row * W + column
    x = column.to(tl.float32) + tl.load(flow + p, mask=present, other=0.0).to(tl.float32)
    y = row.to(tl.float32) + tl.load(flow + H * W + p, mask=present, other=0.0).to(tl.float32)
    # From one cell outside on every weight is zero; the bound keeps huge flows representable.
    x = tl.minimum(tl.maximum(x, -2.0), W + 1.0)
    y = tl.minimum(tl.maximum(y, -2.0), H + 1.0)
    left = tl.floor(x)
    top = tl.floor(y)
    right_share = x - left
    bottom_share = y - top
    left = left.to(tl.int32)
    top = top.to(tl.int32)
    c0, w0 = _corner(top, left, (1 - bottom_share) * (1 - right_share), H, W)
    c1, w1 = _corner(top, left + 1, (1 - bottom_share) * right_share, H, W)
    c2, w2 = _corner(top + 1, left, bottom_share * (1 - right_share), H, W)
    c3, w3 = _corner(top + 1, left + 1, bottom_share * right_share, H, W)
    return (c0, c1, c2, c3), (w0, w1, w2, w3)


@triton.jit
def _sampled(x, cells, weights, channel, kept, C: tl.constexpr):
    """Return the weighted sum of feature vectors at four cells, [locations, channels] float32."""
    value = tl.zeros((cells[0].shape[0], channel.shape[0]), dtype=tl.float32)
    for k in tl.static_range(4):
        vector = tl.load(x + cells[k][:, None] * C + channel[None, :], mask=kept, other=0.0)
        value += weights[k][:, None] * vector.to(tl.float32)
    return value


@triton.jit
def weigh_kernel(
    embeddings,
    flow,
    key_embedding,
    shares,
    H,
    W,
    eps,
    E: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fill shares [T + 1, H, W] with exp(cosine) to the key, the last with the key's own.

    Embeddings lie [T, H, W, E]; grid (patches, T).
    """
    t = tl.program_id(1).to(tl.int64)
    row, column, present = _patch(H, W, ROWS, COLS)
    p = row * W + column
    cells, weights = _corners(flow + t * 2 * H * W, row, column, present, H, W)
    frame = embeddings + t * H * W * E
    dot = tl.zeros((ROWS * COLS, BLOCK), dtype=tl.float32)
    square = tl.zeros((ROWS * COLS, BLOCK), dtype=tl.float32)
    key_square = tl.zeros((ROWS * COLS, BLOCK), dtype=tl.float32)
    for e in range(0, E, BLOCK):
        channel = e + tl.arange(0, BLOCK)
        kept = present[:, None] & (channel < E)[None, :]
        value = _sampled(frame, cells, weights, channel, kept, E)
        key = tl.load(key_embedding + p[:, None] * E + channel[None, :], mask=kept, other=0.0)
        key = key.to(tl.float32)
        dot += value * key
        square += value * value
        key_square += key * key
    norm = tl.maximum(tl.sqrt(tl.sum(square, axis=1)), eps)
    own_square = tl.sum(key_square, axis=1)
    key_norm = tl.maximum(tl.sqrt(own_square), eps)
    share = tl.exp(tl.sum(dot, axis=1) / (norm * key_norm))
    tl.store(shares + t * H * W + p, share, mask=present)
    if t == 0:  # a branch: Triton 3.9's interpreter refuses a mask that a scalar is a part of
        own_share = tl.exp(own_square / (key_norm * key_norm))
        tl.store(shares + tl.num_programs(1) * H * W + p, own_share, mask=present)


@triton.jit
def fuse_kernel(
    features,
    flow,
    shares,
    key_features,
    out,
    T,
    H,
    W,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_KEY: tl.constexpr,
):
    """Sum the neighbours by their shares; features lie [T, H, W, C]; grid (patches, blocks)."""
    row, column, present = _patch(H, W, ROWS, COLS)
    p = row * W + column
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = present[:, None] & (channel < C)[None, :]
    fused = tl.zeros((ROWS * COLS, BLOCK), dtype=tl.float32)
    total = tl.zeros((ROWS * COLS,), dtype=tl.float32)
    if HAS_KEY:
        total = tl.load(shares + T * H * W + p, mask=present, other=1.0)
        own = tl.load(key_features + p[:, None] * C + channel[None, :], mask=kept, other=0.0)
        fused = total[:, None] * own.to(tl.float32)
    t = 0
    while t < T:
        cells, weights = _corners(flow + t * 2 * H * W, row, column, present, H, W)
        share = tl.load(shares + t * H * W + p, mask=present, other=1.0)
        total += share
        frame = features + t.to(tl.int64) * H * W * C
        fused += share[:, None] * _sampled(frame, cells, weights, channel, kept, C)
        t += 1
    result = fused / total[:, None]
    tl.store(out + p[:, None] * C + channel[None, :], result.to(out.dtype.element_ty), mask=kept)


# Rows and columns of a patch, channels at a time and warps, by the type that is read: the fastest
# on an H200 (benchmarks/tune_kernels.py).
WEIGH = {
    torch.float16: (2, 4, 128, 4),
    torch.bfloat16: (2, 4, 128, 4),
    torch.float32: (4, 4, 64, 4),
}
FUSE = {
    torch.float16: (1, 1, 512, 2),
    torch.bfloat16: (1, 1, 512, 2),
    torch.float32: (1, 1, 512, 2),
}
_NAMES = ("ROWS", "COLS", "BLOCK", "num_warps")


def config(table: dict, dtype: torch.dtype, channels: int) -> dict:
    """Return the compile-time arguments and launch options of a kernel.

    Args:
        table: `WEIGH` or `FUSE`.
        dtype: type of the embeddings or features.
        channels: E or C.
    """
    chosen = dict(zip(_NAMES, table[dtype], strict=True))
    chosen["BLOCK"] = min(chosen["BLOCK"], triton.next_power_of_2(channels))
    # A thread loads at least 8 neighbouring values.
    values = chosen["ROWS"] * chosen["COLS"] * chosen["BLOCK"]
    chosen["num_warps"] = max(1, min(chosen["num_warps"], values // 256))
    return chosen


def _patches(height: int, width: int, options: dict) -> int:
    return triton.cdiv(height, options["ROWS"]) * triton.cdiv(width, options["COLS"])


def aggregate(
    features: Tensor,
    embeddings: Tensor,
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None,
    out: Tensor,
    eps: float,
) -> None:
    """Fill `out` [1, C, H, W] with the neighbours fused into the key frame.

    Args:
        features: [T, C, H, W] of the reference frames.
        embeddings: [T, E, H, W] of the reference frames.
        flow: [T, 2, H, W] in cells.
        key_embedding: [1, E, H, W].
        key_features: [1, C, H, W]; None to leave the key frame out.
        out: [1, C, H, W], filled in place.
        eps: least length of an embedding in the cosine.
    """
    count, channels, height, width = features.shape
    if out.numel() == 0:
        return
    if count == 0:
        out.copy_(key_features)
        return
    target = channels_last_target(out)
    features, embeddings = channels_last(features), channels_last(embeddings)
    key_embedding, flow = channels_last(key_embedding), flow.contiguous()
    shares = torch.empty((count + 1, height, width), dtype=torch.float32, device=out.device)
    with torch.cuda.device_of(out):
        embedded = embeddings.shape[1]
        options = config(WEIGH, embeddings.dtype, embedded)
        weigh_kernel[(_patches(height, width, options), count)](
            embeddings,
            flow,
            key_embedding,
            shares,
            height,
            width,
            eps,
            E=embedded,
            **options,
        )
        options = config(FUSE, features.dtype, channels)
        blocks = triton.cdiv(channels, options["BLOCK"])
        fuse_kernel[(_patches(height, width, options), blocks)](
            features,
            flow,
            shares,
            features if key_features is None else channels_last(key_features),
            target,
            count,
            height,
            width,
            C=channels,
            HAS_KEY=key_features is not None,
            **options,
        )
    if target is not out:
        out.copy_(target)
