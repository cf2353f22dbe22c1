"""Warp, cosine weight, softmax and weighted sum of all neighbours in one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .memory_format import channels_last, channels_last_target


@triton.jit
def _corner(row, column, weight, H, W):
    """Returns the cell number of a corner, clamped into the map, and its weight, zero outside."""
    inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
    row = tl.minimum(tl.maximum(row, 0), H - 1)
    column = tl.minimum(tl.maximum(column, 0), W - 1)
    return row * W + column, tl.where(inside, weight, 0.0)


@triton.jit
def _sampled(x, cells, weights, channel, kept, C: tl.constexpr):
    """Returns the weighted sum of feature vectors at four cells, [BLOCK_P, BLOCK_C] float32."""
    value = tl.zeros((cells[0].shape[0], channel.shape[0]), dtype=tl.float32)
    for k in tl.static_range(4):
        vector = tl.load(x + cells[k][:, None] * C + channel[None, :], mask=kept, other=0.0)
        value += weights[k][:, None] * vector.to(tl.float32)
    return value


@triton.jit
def aggregate_kernel(
    features,
    embeddings,
    flow,
    key_embedding,
    key_features,
    out,
    T,
    H,
    W,
    eps,
    C: tl.constexpr,
    E: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_E: tl.constexpr,
    HAS_KEY: tl.constexpr,
):
    """Fuses T neighbours at BLOCK_P locations; features lie [T, H, W, C], flow [T, 2, H, W].

    The sum over neighbours stays in registers. A cosine is at most 1, so exp(cosine) needs no
    running maximum.
    """
    cells = H * W
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    present = p < cells
    column = (p % W).to(tl.float32)
    row = (p // W).to(tl.float32)
    channel = tl.arange(0, BLOCK_C)
    kept = present[:, None] & (channel < C)[None, :]

    key_square = tl.zeros((BLOCK_P,), dtype=tl.float32)
    for e in range(0, E, BLOCK_E):
        part = e + tl.arange(0, BLOCK_E)
        mask = present[:, None] & (part < E)[None, :]
        key = tl.load(key_embedding + p[:, None] * E + part[None, :], mask=mask, other=0.0)
        key = key.to(tl.float32)
        key_square += tl.sum(key * key, axis=1)
    key_norm = tl.sqrt(key_square)

    fused = tl.zeros((BLOCK_P, BLOCK_C), dtype=tl.float32)
    total = tl.zeros((BLOCK_P,), dtype=tl.float32)
    if HAS_KEY:
        norm = tl.maximum(key_norm, eps)
        total = tl.exp(key_square / (norm * norm))
        own = tl.load(key_features + p[:, None] * C + channel[None, :], mask=kept, other=0.0)
        fused = total[:, None] * own.to(tl.float32)

    t = 0
    while t < T:
        flow_t = flow + t * 2 * cells + p
        x = column + tl.load(flow_t, mask=present, other=0.0).to(tl.float32)
        y = row + tl.load(flow_t + cells, mask=present, other=0.0).to(tl.float32)
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
        corners = (c0, c1, c2, c3)
        weights = (w0, w1, w2, w3)

        dot = tl.zeros((BLOCK_P,), dtype=tl.float32)
        square = tl.zeros((BLOCK_P,), dtype=tl.float32)
        frame = embeddings + t.to(tl.int64) * cells * E
        for e in range(0, E, BLOCK_E):
            part = e + tl.arange(0, BLOCK_E)
            mask = present[:, None] & (part < E)[None, :]
            value = _sampled(frame, corners, weights, part, mask, E)
            key = tl.load(key_embedding + p[:, None] * E + part[None, :], mask=mask, other=0.0)
            dot += tl.sum(value * key.to(tl.float32), axis=1)
            square += tl.sum(value * value, axis=1)
        norms = tl.maximum(tl.sqrt(square), eps) * tl.maximum(key_norm, eps)
        share = tl.exp(dot / norms)
        total += share
        frame = features + t.to(tl.int64) * cells * C
        fused += share[:, None] * _sampled(frame, corners, weights, channel, kept, C)
        t += 1

    result = fused / total[:, None]
    tl.store(out + p[:, None] * C + channel[None, :], result.to(out.dtype.element_ty), mask=kept)


# Values that a program holds of one sum or loads of one corner: 16 a thread, so that nothing spills
# and loads are 128 bits wide.
_VALUES = 2048
_WARPS = 4

# One location's sum over neighbours has to fit a program.
MAX_CHANNELS = _VALUES


def config(channels: int, embedded: int) -> dict:
    """Returns the compile-time arguments and launch options of the kernel."""
    block_c = triton.next_power_of_2(channels)
    block_p = max(1, min(16, _VALUES // block_c))
    return {
        "BLOCK_P": block_p,
        "BLOCK_C": block_c,
        "BLOCK_E": min(_VALUES // block_p, triton.next_power_of_2(embedded)),
        "num_warps": _WARPS,
    }


def aggregate(
    features: Tensor,
    embeddings: Tensor,
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None,
    out: Tensor,
    eps: float,
) -> None:
    """Fills `out` [1, C, H, W] with the neighbours fused into the key frame."""
    count, channels, height, width = features.shape
    if out.numel() == 0:
        return
    target = channels_last_target(out)
    pixel_major = [
        None if x is None else channels_last(x)
        for x in (features, embeddings, key_embedding, key_features)
    ]
    options = config(channels, embeddings.shape[1])
    with torch.cuda.device_of(features):
        aggregate_kernel[(triton.cdiv(height * width, options["BLOCK_P"]),)](
            pixel_major[0],
            pixel_major[1],
            flow.contiguous(),
            pixel_major[2],
            pixel_major[2] if key_features is None else pixel_major[3],
            target,
            count,
            height,
            width,
            eps,
            C=channels,
            E=embeddings.shape[1],
            HAS_KEY=key_features is not None,
            **options,
        )
    if target is not out:
        out.copy_(target)
