"""Local correlation on tensor cores: the pixels of a tile against the pixels around them.

With displacements that are multiples of the stride s only pixels of one (y mod s, x mod s) phase
meet, and inside a phase a displacement is a step of one cell. A tile of TILE_ROWS x TILE_COLS
pixels of a phase reaches a window of (TILE_ROWS + 2R) x (TILE_COLS + 2R) pixels, counted row by row
and taken BLOCK_Q at a time. The products of tile and window are one matrix, of which the wanted
ones form a band.

Forward that matrix is computed and its band stored. For the gradients the matrix is laid out first
with the output's gradient on its band and zeros beside it; times the vectors of the window it gives
the gradients of the tile; a NaN in a window reaches its whole tile. Nothing is added up with
atomics, so results are equal from run to run.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .memory_format import channels_last, channels_last_target


@triton.jit
def _first(tile, H, W, STRIDE: tl.constexpr, TILE_ROWS: tl.constexpr, TILE_COLS: tl.constexpr):
    """Return phase (y, x) and first cell (y, x) of a tile."""
    tiles_x = tl.cdiv(tl.cdiv(W, STRIDE), TILE_COLS)
    tiles_y = tl.cdiv(tl.cdiv(H, STRIDE), TILE_ROWS)
    phase = tile // (tiles_x * tiles_y)
    first_y = (tile // tiles_x % tiles_y) * TILE_ROWS
    first_x = (tile % tiles_x) * TILE_COLS
    return phase // STRIDE, phase % STRIDE, first_y, first_x


@triton.jit
def _pixels(first, cell_y, cell_x, H, W, STRIDE: tl.constexpr):
    """Return the pixel numbers of cells counted from `first` and whether they are in the map."""
    phase_y, phase_x, first_y, first_x = first
    y = (first_y + cell_y) * STRIDE + phase_y
    x = (first_x + cell_x) * STRIDE + phase_x
    return y * W + x, (y >= 0) & (y < H) & (x >= 0) & (x < W)


@triton.jit
def _tile_cells(TILE_ROWS: tl.constexpr, TILE_COLS: tl.constexpr):
    m = tl.arange(0, TILE_ROWS * TILE_COLS)
    return m // TILE_COLS, m % TILE_COLS


@triton.jit
def _window_cells(block, RADIUS: tl.constexpr, TILE_COLS: tl.constexpr, BLOCK_Q: tl.constexpr):
    # Cells beyond the last row of the window lie farther than any displacement of the tile.
    q = block * BLOCK_Q + tl.arange(0, BLOCK_Q)
    return q // (TILE_COLS + 2 * RADIUS), q % (TILE_COLS + 2 * RADIUS)


@triton.jit
def _tile_and_window(
    H,
    W,
    RADIUS: tl.constexpr,
    STRIDE: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
):
    """Return cells (y, x), pixel numbers and presence of a tile and of a block of its window."""
    first = _first(tl.program_id(0) // BLOCKS, H, W, STRIDE, TILE_ROWS, TILE_COLS)
    tile_y, tile_x = _tile_cells(TILE_ROWS, TILE_COLS)
    pixel, inside = _pixels(first, tile_y, tile_x, H, W, STRIDE)
    window_y, window_x = _window_cells(tl.program_id(0) % BLOCKS, RADIUS, TILE_COLS, BLOCK_Q)
    partner, present = _pixels(first, window_y - RADIUS, window_x - RADIUS, H, W, STRIDE)
    return (tile_y, tile_x, pixel, inside), (window_y, window_x, partner, present)


@triton.jit
def correlate_kernel(
    x1,
    x2,
    out,
    H,
    W,
    x1_batch,
    scale,
    C: tl.constexpr,
    RADIUS: tl.constexpr,
    STRIDE: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Forward. Maps lie [N, H, W, C] (x1_batch 0: one key for all); grid (tiles * BLOCKS, N)."""
    SIDE: tl.constexpr = 2 * RADIUS + 1
    n = tl.program_id(1).to(tl.int64)
    tile, window = _tile_and_window(H, W, RADIUS, STRIDE, TILE_ROWS, TILE_COLS, BLOCKS, BLOCK_Q)
    tile_y, tile_x, pixel, inside = tile
    window_y, window_x, partner, present = window
    channel = tl.arange(0, BLOCK_C)
    a_ptr = x1 + n * x1_batch + pixel[:, None] * C + channel[None, :]
    b_ptr = x2 + n * H * W * C + partner[:, None] * C + channel[None, :]
    products = tl.zeros((TILE_ROWS * TILE_COLS, BLOCK_Q), dtype=tl.float32)
    for c in range(0, C, BLOCK_C):
        if C % BLOCK_C == 0:
            a = tl.load(a_ptr + c, mask=inside[:, None], other=0.0)
            b = tl.load(b_ptr + c, mask=present[:, None], other=0.0)
        else:
            kept = (channel < C - c)[None, :]
            a = tl.load(a_ptr + c, mask=inside[:, None] & kept, other=0.0)
            b = tl.load(b_ptr + c, mask=present[:, None] & kept, other=0.0)
        products = tl.dot(a, tl.trans(b), products, input_precision=PRECISION)
    i = window_y[None, :] - tile_y[:, None]
    j = window_x[None, :] - tile_x[:, None]
    tl.store(
        out + (n * H * W + pixel[:, None]) * (SIDE * SIDE) + i * SIDE + j,
        (products * scale).to(out.dtype.element_ty),
        mask=inside[:, None] & (i >= 0) & (i < SIDE) & (j >= 0) & (j < SIDE),
    )


@triton.jit
def band_kernel(
    grad,
    band,
    H,
    W,
    RADIUS: tl.constexpr,
    STRIDE: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    MIRRORED: tl.constexpr,
):
    """Fill band [N, tiles, BLOCKS, tile, BLOCK_Q] with weights; grid (tiles * BLOCKS, N).

    The weight of pixel p + d for pixel p is grad[d](p), or grad[-d](p + d) if MIRRORED. grad lies
    [N, H, W, (2R+1)**2].
    """
    SIDE: tl.constexpr = 2 * RADIUS + 1
    n = tl.program_id(1).to(tl.int64)
    tile, window = _tile_and_window(H, W, RADIUS, STRIDE, TILE_ROWS, TILE_COLS, BLOCKS, BLOCK_Q)
    tile_y, tile_x, pixel, inside = tile
    window_y, window_x, partner, present = window
    m = tl.arange(0, TILE_ROWS * TILE_COLS)
    q = tl.arange(0, BLOCK_Q)
    band += (n * tl.num_programs(0) + tl.program_id(0)) * (TILE_ROWS * TILE_COLS * BLOCK_Q)
    # The inner dimension is the one along which the displacement grows in memory.
    if MIRRORED:
        i = tile_y[None, :] - window_y[:, None] + 2 * RADIUS
        j = tile_x[None, :] - window_x[:, None] + 2 * RADIUS
        wanted = inside[None, :] & present[:, None]
        owner = partner[:, None]
    else:
        i = window_y[None, :] - tile_y[:, None]
        j = window_x[None, :] - tile_x[:, None]
        wanted = inside[:, None] & present[None, :]
        owner = pixel[:, None]
    wanted = wanted & (i >= 0) & (i < SIDE) & (j >= 0) & (j < SIDE)
    weight_ptr = grad + (n * H * W + owner) * (SIDE * SIDE) + i * SIDE + j
    weight = tl.load(weight_ptr, mask=wanted, other=0.0)
    if MIRRORED:
        weight = tl.trans(weight)
    tl.store(band + m[:, None] * BLOCK_Q + q[None, :], weight)


@triton.jit
def gather_kernel(
    band,
    x,
    out,
    H,
    W,
    N,
    x_batch,
    scale,
    C: tl.constexpr,
    RADIUS: tl.constexpr,
    STRIDE: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Both gradients: for pixel p the sum over displacements d of weight(d, p) * x(p + d).

    Maps lie [N, H, W, C] (x_batch 0: one x for all), weights as `band_kernel` leaves them. Grid
    (tiles * channel blocks, parts): part k is the sum over the samples k, k + parts, ... and lies
    at k in out.
    """
    blocks = tl.cdiv(C, BLOCK_C)
    tile = tl.program_id(0) // blocks
    first = _first(tile, H, W, STRIDE, TILE_ROWS, TILE_COLS)
    channel = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    kept = (channel < C)[None, :]
    m = tl.arange(0, TILE_ROWS * TILE_COLS)
    q = tl.arange(0, BLOCK_Q)
    total = tl.zeros((TILE_ROWS * TILE_COLS, BLOCK_C), dtype=tl.float32)
    n = tl.program_id(1).to(tl.int64)
    while n < N:
        matrix = n * (tl.num_programs(0) // blocks) + tile
        weight_ptr = band + matrix * (BLOCKS * TILE_ROWS * TILE_COLS * BLOCK_Q)
        weight_ptr += m[:, None] * BLOCK_Q + q[None, :]
        x_ptr = x + n * x_batch + channel[None, :]
        for block in range(BLOCKS):
            window_y, window_x = _window_cells(block, RADIUS, TILE_COLS, BLOCK_Q)
            partner, present = _pixels(first, window_y - RADIUS, window_x - RADIUS, H, W, STRIDE)
            present = present & (window_y < TILE_ROWS + 2 * RADIUS)
            weight = tl.load(weight_ptr + block * (TILE_ROWS * TILE_COLS * BLOCK_Q))
            source = tl.load(x_ptr + partner[:, None] * C, mask=present[:, None] & kept, other=0.0)
            total = tl.dot(weight, source, total, input_precision=PRECISION)
        n += tl.num_programs(1)
    tile_y, tile_x = _tile_cells(TILE_ROWS, TILE_COLS)
    pixel, inside = _pixels(first, tile_y, tile_x, H, W, STRIDE)
    tl.store(
        out + (tl.program_id(1).to(tl.int64) * H * W + pixel[:, None]) * C + channel[None, :],
        (total * scale).to(out.dtype.element_ty),
        mask=inside[:, None] & kept,
    )


@triton.jit
def sum_kernel(parts, out, count, size, BLOCK: tl.constexpr):
    """Sum `count` parts of `size` values each; grid (blocks of values,)."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    k = 0
    while k < count:
        total += tl.load(parts + index, mask=index < size, other=0.0)
        parts += size
        k += 1
    tl.store(out + index, total.to(out.dtype.element_ty), mask=index < size)


# Rows and columns of a tile, window pixels and channels at a time, warps and pipeline stages, by
# what `arithmetic` returns: the fastest on an H200 (benchmarks/tune_kernels.py) of those that spill
# no register on sm_80, sm_90 and sm_100 (tests/kernels/test_compile.py). Gradients in TF32 were not
# timed. 64 pixels of a tile are the rows of a warp group's matrix instruction.
FORWARD = {
    torch.float16: (4, 16, 128, 32, 4, 4),
    torch.bfloat16: (4, 16, 128, 32, 4, 4),
    "tf32": (4, 16, 128, 32, 4, 3),
    "tf32x3": (4, 16, 64, 32, 4, 4),
}
GRADIENTS = {
    torch.float16: (4, 16, 64, 128, 4, 3),
    torch.bfloat16: (4, 16, 64, 128, 4, 3),
    "tf32": (4, 16, 32, 64, 4, 3),
    "tf32x3": (4, 16, 32, 64, 4, 3),
}
_NAMES = ("TILE_ROWS", "TILE_COLS", "BLOCK_Q", "BLOCK_C", "num_warps", "num_stages")

# A sum over samples is formed in up to so many parts side by side: one fills no GPU.
_PARTS = 5


def arithmetic(dtype: torch.dtype) -> torch.dtype | str:
    """Return how tensor cores multiply a type: a half type as it is, float32 as TF32 products.

    Follows PyTorch's switch for matrix products: one TF32 product where that allows it, else three,
    which have float32's accuracy.
    """
    if dtype != torch.float32:
        return dtype
    # The newer of PyTorch's two switches reads right whichever was set; the older raises then.
    precision = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
    allowed = torch.backends.cuda.matmul.allow_tf32 if precision is None else precision == "tf32"
    return "tf32" if allowed else "tf32x3"


def config(table: dict, kind: torch.dtype | str, channels: int, radius: int) -> dict:
    """Return the compile-time arguments and launch options of a kernel.

    Args:
        table: `FORWARD` or `GRADIENTS`.
        kind: what `arithmetic` returns for the type of the features.
        channels: C.
        radius: largest displacement in steps.
    """
    chosen = dict(zip(_NAMES, table[kind], strict=True))
    chosen["BLOCK_C"] = min(chosen["BLOCK_C"], max(16, triton.next_power_of_2(channels)))
    window = (chosen["TILE_ROWS"] + 2 * radius) * (chosen["TILE_COLS"] + 2 * radius)
    chosen["BLOCK_Q"] = min(chosen["BLOCK_Q"], triton.next_power_of_2(window))
    chosen["BLOCKS"] = triton.cdiv(window, chosen["BLOCK_Q"])
    chosen["PRECISION"] = kind if isinstance(kind, str) else "ieee"
    return chosen


def _tiles(height: int, width: int, stride: int, options: dict) -> int:
    rows = triton.cdiv(triton.cdiv(height, stride), options["TILE_ROWS"])
    columns = triton.cdiv(triton.cdiv(width, stride), options["TILE_COLS"])
    return stride * stride * rows * columns


def _batch_stride(x: Tensor) -> int:
    return 0 if x.shape[0] == 1 else x.shape[1] * x.shape[2] * x.shape[3]


def correlate(x1: Tensor, x2: Tensor, out: Tensor, radius: int, stride: int) -> None:
    """Fill `out` [N, (2R+1)**2, H, W] with the correlation of x1 [1 or N, C, H, W] and x2.

    Args:
        x1: [1 or N, C, H, W], the key frame's.
        x2: [N, C, H, W], the reference frames'.
        out: result, filled in place.
        radius: R, displacements to each side.
        stride: of the displacements, in cells.
    """
    batch, channels, height, width = x2.shape
    if out.numel() == 0:
        return
    x1, x2, target = channels_last(x1), channels_last(x2), channels_last_target(out)
    options = config(FORWARD, arithmetic(x2.dtype), channels, radius)
    programs = _tiles(height, width, stride, options) * options["BLOCKS"]
    with torch.cuda.device_of(x2):
        correlate_kernel[(programs, batch)](
            x1,
            x2,
            target,
            height,
            width,
            _batch_stride(x1),
            1 / channels,
            C=channels,
            RADIUS=radius,
            STRIDE=stride,
            **options,
        )
    if target is not out:
        out.copy_(target)


def correlate_grad1(grad: Tensor, x2: Tensor, out: Tensor, radius: int, stride: int) -> None:
    """Fill `out` with the gradient to x1: [N, C, H, W], or its sum over N as [1, C, H, W].

    Args:
        grad: of the result, [N, (2R+1)**2, H, W].
        x2: [N, C, H, W].
        out: gradient, filled in place.
        radius: R, displacements to each side.
        stride: of the displacements, in cells.
    """
    _gather(grad, x2, out, radius, stride, mirrored=False)


def correlate_grad2(grad: Tensor, x1: Tensor, out: Tensor, radius: int, stride: int) -> None:
    """Fill `out` [N, C, H, W] with the gradient to x2, for x1 [1 or N, C, H, W].

    Args:
        grad: of the result, [N, (2R+1)**2, H, W].
        x1: [1 or N, C, H, W].
        out: gradient, filled in place.
        radius: R, displacements to each side.
        stride: of the displacements, in cells.
    """
    _gather(grad, x1, out, radius, stride, mirrored=True)


def _gather(
    grad: Tensor, x: Tensor, out: Tensor, radius: int, stride: int, *, mirrored: bool
) -> None:
    batch, (channels, height, width) = grad.shape[0], x.shape[1:]
    if batch == 0 or out.numel() == 0:
        out.zero_()
        return
    x, grad = channels_last(x), channels_last(grad.to(x.dtype))
    target = channels_last_target(out)
    summed = target
    parts = batch if out.shape[0] == batch else min(batch, _PARTS)
    if parts != out.shape[0]:
        summed = out.new_empty((parts, height, width, channels), dtype=torch.float32)
    options = config(GRADIENTS, arithmetic(x.dtype), channels, radius)
    tiles = _tiles(height, width, stride, options)
    shape = {name: options[name] for name in ("TILE_ROWS", "TILE_COLS", "BLOCKS", "BLOCK_Q")}
    band = x.new_empty((batch, tiles, math.prod(shape.values())))
    size = height * width * channels
    with torch.cuda.device_of(x):
        band_kernel[(tiles * options["BLOCKS"], batch)](
            grad,
            band,
            height,
            width,
            RADIUS=radius,
            STRIDE=stride,
            MIRRORED=mirrored,
            num_warps=options["num_warps"],
            **shape,
        )
        gather_kernel[(tiles * triton.cdiv(channels, options["BLOCK_C"]), parts)](
            band,
            x,
            summed,
            height,
            width,
            batch,
            _batch_stride(x),
            1 / channels,
            C=channels,
            RADIUS=radius,
            STRIDE=stride,
            **options,
        )
        if summed is not target:
            sum_kernel[(triton.cdiv(size, 1024),)](summed, target, parts, size, BLOCK=1024)
    if target is not out:
        out.copy_(target)
