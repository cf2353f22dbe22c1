"""Local correlation as matrix products in phase space, the formulation for the CPU and for float64.

With displacements that are multiples of the stride s, only pixels with equal (y mod s, x mod s)
ever meet. Inside one such phase a displacement is a step of one cell, so a short run of pixels of a
row meets a window of 2R+1 rows. Stored row after row that window is one contiguous matrix, the
windows of successive rows overlap, and every wanted product lies on a band of the result, which a
strided view reads without an index. Work and buffers are those of one phase of rows of one sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .pixels import PixelMajor, accumulation_type

# Pixels of a row in one matrix product. A longer run multiplies more pairs that lie outside of the
# displacement range, a shorter one makes matrices too thin for the CPU's library. A GPU is held up
# by launches instead and takes whole rows.
_CPU_RUN = 8

# Values between one pixel's channels and the next pixel's, in sums that are stored channels-first:
# the usual numbers of channels would lay what is read at once a power of two of bytes apart, where
# it pushes itself out of the cache.
_PITCH = 16


class _Tile(NamedTuple):
    """Columns `px + stride * (first ... first + width - 1)` of all rows of a phase."""

    px: int
    first: int
    width: int

    def of(self, rows: Tensor, stride: int) -> Tensor:
        """Return views the tile's pixels of [rows, W, ...]."""
        return rows[:, self.px :: stride][:, self.first : self.first + self.width]


def _tiles(width: int, stride: int, device: torch.device) -> Iterator[_Tile]:
    for px in range(min(stride, width)):
        columns = -(-(width - px) // stride)
        runs = -(-columns // _CPU_RUN) if device.type == "cpu" else 1
        run = -(-columns // runs)
        for first in range(0, columns, run):
            yield _Tile(px, first, min(run, columns - first))


class _Products:
    """Matrix products between the pixels of a tile and their windows, in reused buffers."""

    def __init__(self, radius: int, stride: int) -> None:
        self._radius = radius
        self._side = 2 * radius + 1
        self._stride = stride
        self._buffers: dict[tuple[object, ...], Tensor] = {}

    def correlation(self, key: Tensor, rows: Tensor, tile: _Tile) -> Tensor:
        """Return products of the tile's key pixels and displaced pixels of `rows`.

        Args:
            key: [H', W, C].
            rows: [H', W, C].

        Returns:
            [H', width, 2R+1, 2R+1], valid until the next call.
        """
        windows = self._windows(rows, tile)
        product = self._buffer("product", windows, rows.shape[0], tile.width, windows.shape[1])
        torch.bmm(tile.of(key, self._stride), windows.transpose(1, 2), out=product)
        return self._band(product, tile)

    def weighted_sum(self, weights: Tensor, rows: Tensor, tile: _Tile, scale: float) -> Tensor:
        """Return the sum over displacements of `scale` times weight times displaced pixel.

        Args:
            weights: [H', W, 2R+1, 2R+1].
            rows: [H', W, C].

        Returns:
            [H', width, C], valid until the next call.
        """
        windows = self._windows(rows, tile)
        matrix = self._buffer("band", windows, rows.shape[0], tile.width, windows.shape[1])
        torch.mul(tile.of(weights, self._stride), scale, out=self._band(matrix, tile))
        product = self._buffer("sum", windows, rows.shape[0], tile.width, rows.shape[2])
        return torch.bmm(matrix, windows, out=product)

    def _buffer(self, kind: str, like: Tensor, *shape: int) -> Tensor:
        """Return the buffer of a kind and shape, zero when new: what is never written stays so."""
        key = (kind, *shape)
        if key not in self._buffers:
            self._buffers[key] = like.new_zeros(shape)
        return self._buffers[key]

    def _windows(self, rows: Tensor, tile: _Tile) -> Tensor:
        """Return [H', (2R+1)*(width+2R), C]: for each row the pixels in reach, zeros outside."""
        radius = self._radius
        height, columns, channels = rows.shape[0], tile.width + 2 * radius, rows.shape[2]
        strip = self._buffer("strip", rows, height + 2 * radius, columns, channels)
        phase = rows[:, tile.px :: self._stride]
        first = tile.first - radius
        start, stop = max(first, 0), min(first + columns, phase.shape[1])
        # The rows above and below stay zero for ever; the columns beside differ from tile to tile.
        inner = strip[radius : radius + height]
        inner[:, : start - first].zero_()
        inner[:, start - first : stop - first] = phase[:, start:stop]
        inner[:, stop - first :].zero_()
        size = (height, self._side * columns, channels)
        return strip.as_strided(size, (columns * channels, channels, 1))

    def _band(self, matrix: Tensor, tile: _Tile) -> Tensor:
        """Return views [H', width, (2R+1)*(width+2R)] as its band [H', width, 2R+1, 2R+1]."""
        columns = tile.width + 2 * self._radius
        row = self._side * columns
        size = (matrix.shape[0], tile.width, self._side, self._side)
        return matrix.as_strided(size, (tile.width * row, row + 1, columns, 1))


def correlate(x1: Tensor, x2: Tensor, out: Tensor, radius: int, stride: int) -> None:
    """Fill `out` [N, (2R+1)**2, H, W] with the correlation of x1 [1 or N, C, H, W] and x2.

    Args:
        x1: [1 or N, C, H, W], the key frame's.
        x2: [N, C, H, W], the reference frames'.
        out: result, filled in place.
        radius: R, displacements to each side.
        stride: of the displacements, in cells.
    """
    dtype = accumulation_type(x2.dtype)
    channels, height, width = x2.shape[1:]
    products = _Products(radius, stride)
    key_pixels, pixels = (PixelMajor(dtype, rows_apart=True) for _ in range(2))
    for py in range(min(stride, height)):
        key = None
        for n in range(x2.shape[0]):
            if key is None or x1.shape[0] > 1:
                key = key_pixels(x1[n, :, py::stride])
            rows = pixels(x2[n, :, py::stride])
            target = out[n, :, py::stride].permute(1, 2, 0).unflatten(2, (2 * radius + 1, -1))
            for tile in _tiles(width, stride, x2.device):
                band = products.correlation(key, rows, tile)
                torch.mul(band, 1 / channels, out=tile.of(target, stride))


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
    """Sum, for each pixel p and displacement d, x(p + d) times its weight over channels.

    The weight is grad[d](p), or, mirrored, grad[-d](p + d): what x2(p) sees as the partner of
    x1(p + d). Each sum is formed where it is stored, so nothing is scattered.
    """
    if grad.shape[0] == 0:
        out.zero_()
        return
    dtype = accumulation_type(x.dtype)
    channels, height, width = x.shape[1:]
    products = _Products(radius, stride)
    source_pixels, grad_pixels = (PixelMajor(dtype, rows_apart=True) for _ in range(2))
    reduce = out.shape[0] == 1 and grad.shape[0] != 1
    sums = x.new_empty((-(-height // stride), width, channels + _PITCH), dtype=dtype)
    for py in range(min(stride, height)):
        source = None
        total = sums[: -(-(height - py) // stride), :, :channels]
        for n in range(grad.shape[0]):
            if source is None or x.shape[0] > 1:
                source = source_pixels(x[n, :, py::stride])
            weights = grad_pixels(grad[n, :, py::stride]).unflatten(2, (2 * radius + 1, -1))
            if mirrored:
                weights = _mirror(weights, radius, stride)
            for tile in _tiles(width, stride, x.device):
                part = products.weighted_sum(weights, source, tile, 1 / channels)
                if reduce and n > 0:
                    tile.of(total, stride).add_(part)
                else:
                    tile.of(total, stride).copy_(part)
            if not reduce:
                out[n, :, py::stride] = total.permute(2, 0, 1)
        if reduce:
            out[0, :, py::stride] = total.permute(2, 0, 1)


def _mirror(weights: Tensor, radius: int, stride: int) -> Tensor:
    """View weights [H', W, dy, dx] of one phase of rows as weights[-d](p + d), zero
    outside."""
    height, width, side, _ = weights.shape
    margin = radius * stride
    padded = weights.new_zeros(height + 2 * radius, width + 2 * margin, side, side)
    padded[radius : radius + height, margin : margin + width] = weights.flip((2, 3))
    row, pixel = padded.stride(0), padded.stride(1)
    strides = (row, pixel, row + side, stride * pixel + 1)
    return padded.as_strided((height, width, side, side), strides)
