"""Local correlation on tensor cores: a tile of pixels of one phase against each displaced row.

With displacements that are multiples of the stride s only pixels of one (y mod s, x mod s) phase
meet, and inside a phase a displacement is a step of one cell. A program takes TILE_ROWS x TILE_COLS
pixels of a phase as the rows of a matrix product; the columns are the pixels of one displaced row,
wide enough for all displacements of all pixels of the tile. The wanted entries form a band, and
every output is written once. The gradients gather along the same band, without atomics, so results
are equal from run to run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .memory_format import channels_last, channels_last_target


@triton.jit
def _tile_pixels(pid, H, W, STRIDE: tl.constexpr, TILE_ROWS: tl.constexpr, TILE_COLS: tl.constexpr):
    """Returns phase, first cell and pixel coordinates of the tile that a program works on."""
    tiles_x = tl.cdiv(tl.cdiv(W, STRIDE), TILE_COLS)
    tiles_y = tl.cdiv(tl.cdiv(H, STRIDE), TILE_ROWS)
    first_x = (pid % tiles_x) * TILE_COLS
    first_y = (pid // tiles_x % tiles_y) * TILE_ROWS
    phase = pid // (tiles_x * tiles_y)
    phase_y = phase // STRIDE
    phase_x = phase % STRIDE
    m = tl.arange(0, TILE_ROWS * TILE_COLS)
    tile_y = m // TILE_COLS
    tile_x = m % TILE_COLS
    return phase_y, phase_x, first_y, first_x, tile_y, tile_x


@triton.jit
def correlate_kernel(
    x1,
    x2,
    out,
    H,
    W,
    x1_batch,
    out_batch,
    out_channel,
    out_row,
    out_col,
    scale,
    C: tl.constexpr,
    RADIUS: tl.constexpr,
    STRIDE: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    WINDOW: tl.constexpr,
    BLOCK_C: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Forward. x1, x2 lie [N, H, W, C] (x1_batch 0: one key for all); grid (tiles, N)."""
    SIDE: tl.constexpr = 2 * RADIUS + 1
    n = tl.program_id(1).to(tl.int64)
    phase_y, phase_x, first_y, first_x, tile_y, tile_x = _tile_pixels(
        tl.program_id(0), H, W, STRIDE, TILE_ROWS, TILE_COLS
    )
    y = (first_y + tile_y) * STRIDE + phase_y
    x = (first_x + tile_x) * STRIDE + phase_x
    inside = (y < H) & (x < W)
    window = tl.arange(0, WINDOW)
    window_x = (first_x + window - RADIUS) * STRIDE + phase_x
    channel = tl.arange(0, BLOCK_C)
    a_ptr = x1 + n * x1_batch + (y * W + x)[:, None] * C + channel[None, :]
    out_ptr = out + n * out_batch + (y * out_row + x * out_col)[:, None]
    j = window[None, :] - tile_x[:, None]
    in_band = inside[:, None] & (j >= 0) & (j < SIDE)

    for row in range(TILE_ROWS + 2 * RADIUS):
        window_y = (first_y + row - RADIUS) * STRIDE + phase_y
        present = (window_x >= 0) & (window_x < W) & (window_y >= 0) & (window_y < H)
        b_ptr = x2 + n * H * W * C + (window_y * W + window_x)[:, None] * C + channel[None, :]
        products = tl.zeros((TILE_ROWS * TILE_COLS, WINDOW), dtype=tl.float32)
        for c in range(0, C, BLOCK_C):
            if C % BLOCK_C == 0:
                a = tl.load(a_ptr + c, mask=inside[:, None], other=0.0)
                b = tl.load(b_ptr + c, mask=present[:, None], other=0.0)
            else:
                kept = (channel < C - c)[None, :]
                a = tl.load(a_ptr + c, mask=inside[:, None] & kept, other=0.0)
                b = tl.load(b_ptr + c, mask=present[:, None] & kept, other=0.0)
            products = tl.dot(a, tl.trans(b), products, input_precision=PRECISION)
        i = row - tile_y[:, None]
        tl.store(
            out_ptr + (i * SIDE + j) * out_channel,
            (products * scale).to(out.dtype.element_ty),
            mask=in_band & (i >= 0) & (i < SIDE),
        )


@triton.jit
def gather_kernel(
    grad,
    x,
    out,
    H,
    W,
    N,
    x_batch,
    grad_batch,
    grad_channel,
    grad_row,
    grad_col,
    scale,
    C: tl.constexpr,
    RADIUS: tl.constexpr,
    STRIDE: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    WINDOW: tl.constexpr,
    BLOCK_C: tl.constexpr,
    MIRRORED: tl.constexpr,
    REDUCE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Both gradients: for pixel p the sum over displacements d of weight(d, p) * x(p + d).

    The weight is grad[d](p), or grad[-d](p + d) if MIRRORED. x and out lie [N, H, W, C] (x_batch 0:
    one x for all). REDUCE sums over the N samples into an out of batch size 1. Grid (tiles,
    channel blocks, N or 1).
    """
    SIDE: tl.constexpr = 2 * RADIUS + 1
    phase_y, phase_x, first_y, first_x, tile_y, tile_x = _tile_pixels(
        tl.program_id(0), H, W, STRIDE, TILE_ROWS, TILE_COLS
    )
    y = (first_y + tile_y) * STRIDE + phase_y
    x_coordinate = (first_x + tile_x) * STRIDE + phase_x
    inside = (y < H) & (x_coordinate < W)
    window = tl.arange(0, WINDOW)
    window_x = (first_x + window - RADIUS) * STRIDE + phase_x
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    kept = (channel < C)[None, :]
    j = window[None, :] - tile_x[:, None]
    in_band = inside[:, None] & (j >= 0) & (j < SIDE)

    total = tl.zeros((TILE_ROWS * TILE_COLS, BLOCK_C), dtype=tl.float32)
    n = tl.program_id(2).to(tl.int64)
    end = n + 1
    if REDUCE:
        end += N - 1
    while n < end:
        for row in range(TILE_ROWS + 2 * RADIUS):
            window_y = (first_y + row - RADIUS) * STRIDE + phase_y
            present = (window_x >= 0) & (window_x < W) & (window_y >= 0) & (window_y < H)
            i = row - tile_y[:, None]
            wanted = in_band & (i >= 0) & (i < SIDE) & present[None, :]
            if MIRRORED:
                displacement = (SIDE - 1 - i) * SIDE + (SIDE - 1 - j)
                pixel = (window_y * grad_row + window_x * grad_col)[None, :]
            else:
                displacement = i * SIDE + j
                pixel = (y * grad_row + x_coordinate * grad_col)[:, None]
            weight_ptr = grad + n * grad_batch + displacement * grad_channel + pixel
            weight = tl.load(weight_ptr, mask=wanted, other=0.0)
            source_ptr = x + n * x_batch + (window_y * W + window_x)[:, None] * C
            source = tl.load(source_ptr + channel[None, :], mask=present[:, None] & kept, other=0.0)
            total = tl.dot(weight, source, total, input_precision=PRECISION)
        n += 1
    out_ptr = out + tl.program_id(2).to(tl.int64) * H * W * C + (y * W + x_coordinate)[:, None] * C
    tl.store(
        out_ptr + channel[None, :],
        (total * scale).to(out.dtype.element_ty),
        mask=inside[:, None] & kept,
    )


# Tiles of 4 x 16 pixels fill the 64 rows of a warp group's matrix instruction; 16 columns and the
# 10 beside them that the paper's displacements need fit a window of 32.
_TILE = {"TILE_ROWS": 4, "TILE_COLS": 16}
_FORWARD = {
    torch.float16: {"BLOCK_C": 64, "num_warps": 4, "num_stages": 3},
    torch.bfloat16: {"BLOCK_C": 64, "num_warps": 4, "num_stages": 3},
    torch.float32: {"BLOCK_C": 32, "num_warps": 4, "num_stages": 3},
}
_BACKWARD = {
    torch.float16: {"BLOCK_C": 128, "num_warps": 4, "num_stages": 3},
    torch.bfloat16: {"BLOCK_C": 128, "num_warps": 4, "num_stages": 3},
    # More channels a program spill registers, with three TF32 products or on sm_80.
    torch.float32: {"BLOCK_C": 32, "num_warps": 4, "num_stages": 2},
}


def config(table: dict, dtype: torch.dtype, channels: int, radius: int) -> dict:
    """Returns the compile-time arguments and launch options of a kernel.

    Args:
        table: `_FORWARD` or `_BACKWARD`.
        dtype: type of the features.
        channels: C.
        radius: largest displacement in steps.
    """
    chosen = {**_TILE, **table[dtype]}
    chosen["BLOCK_C"] = min(chosen["BLOCK_C"], max(16, triton.next_power_of_2(channels)))
    chosen["WINDOW"] = max(16, triton.next_power_of_2(chosen["TILE_COLS"] + 2 * radius))
    chosen["PRECISION"] = "ieee" if dtype != torch.float32 else _float32_precision()
    return chosen


def _float32_precision() -> str:
    """Follows PyTorch's switch for matrix products; three TF32 products have float32's accuracy."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"


def _tiles(height: int, width: int, stride: int) -> int:
    rows = triton.cdiv(triton.cdiv(height, stride), _TILE["TILE_ROWS"])
    columns = triton.cdiv(triton.cdiv(width, stride), _TILE["TILE_COLS"])
    return stride * stride * rows * columns


def _batch_stride(x: Tensor) -> int:
    return 0 if x.shape[0] == 1 else x.shape[1] * x.shape[2] * x.shape[3]


def correlate(x1: Tensor, x2: Tensor, out: Tensor, radius: int, stride: int) -> None:
    """Fills `out` [N, (2R+1)**2, H, W] with the correlation of x1 [1 or N, C, H, W] and x2."""
    batch, channels, height, width = x2.shape
    if out.numel() == 0:
        return
    x1, x2 = channels_last(x1), channels_last(x2)
    with torch.cuda.device_of(x2):
        correlate_kernel[(_tiles(height, width, stride), batch)](
            x1,
            x2,
            out,
            height,
            width,
            _batch_stride(x1),
            *out.stride(),
            1 / channels,
            C=channels,
            RADIUS=radius,
            STRIDE=stride,
            **config(_FORWARD, x2.dtype, channels, radius),
        )


def correlate_grad1(grad: Tensor, x2: Tensor, out: Tensor, radius: int, stride: int) -> None:
    """Fills `out` with the gradient to x1: [N, C, H, W], or its sum over N as [1, C, H, W]."""
    _gather(grad, x2, out, radius, stride, mirrored=False)


def correlate_grad2(grad: Tensor, x1: Tensor, out: Tensor, radius: int, stride: int) -> None:
    """Fills `out` [N, C, H, W] with the gradient to x2, for x1 [1 or N, C, H, W]."""
    _gather(grad, x1, out, radius, stride, mirrored=True)


def _gather(
    grad: Tensor, x: Tensor, out: Tensor, radius: int, stride: int, *, mirrored: bool
) -> None:
    batch, (channels, height, width) = grad.shape[0], x.shape[1:]
    if batch == 0 or out.numel() == 0:
        out.zero_()
        return
    x, grad = channels_last(x), grad.to(x.dtype)
    reduce = out.shape[0] == 1 and batch != 1
    target = channels_last_target(out)
    options = config(_BACKWARD, x.dtype, channels, radius)
    blocks = triton.cdiv(channels, options["BLOCK_C"])
    with torch.cuda.device_of(x):
        gather_kernel[(_tiles(height, width, stride), blocks, out.shape[0])](
            grad,
            x,
            target,
            height,
            width,
            batch,
            _batch_stride(x),
            *grad.stride(),
            1 / channels,
            C=channels,
            RADIUS=radius,
            STRIDE=stride,
            MIRRORED=mirrored,
            REDUCE=reduce,
            **options,
        )
    if target is not out:
        out.copy_(target)
