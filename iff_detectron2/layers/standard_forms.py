"""The operators of this package in operators that every runtime has, for programs that leave it.

An exported program holds `iff_detectron2::local_correlation` and its like as they are, and whoever
runs it has to bring them. `STANDARD_FORMS` is a table for `ExportedProgram.run_decompositions` that
puts these functions in their place: slower, more memory, and no kernel of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import aggregation, correlation, warp
from .cosine import EPS
from .pixels import join_samples


def correlation_form(x1: Tensor, x2: Tensor, max_displacement: int, stride: int) -> Tensor:
    """Compute `local_correlation` as products of whole rows, of which a band is taken.

    A row of x1 meets each displaced row of x2 in one matrix product [W, W + 2 * max_displacement];
    the wanted displacements of column x are its entries x, x + stride, ... of row x.

    Arguments as for `local_correlation`.
    """
    channels, height, width = x2.shape[1:]
    reach = max_displacement
    key = x1.permute(0, 2, 3, 1)  # [1 or N, H, W, C]
    rows = F.pad(x2, (reach, reach, reach, reach)).permute(0, 2, 1, 3)  # [N, H', C, W']
    steps = torch.arange(0, 2 * reach + 1, stride, device=x2.device)
    band = torch.arange(width, device=x2.device)[:, None] + steps
    of_rows = []
    for dy in range(0, 2 * reach + 1, stride):
        products = key @ rows[:, dy : dy + height]  # [N, H, W, W']
        of_rows.append(products.gather(3, band.expand(products.shape[0], height, -1, -1)))
    return torch.cat(of_rows, dim=3).permute(0, 3, 1, 2) / channels


def warp_form(x: Tensor, flow: Tensor) -> Tensor:
    """Compute `flow_warp` by sampling on a normalised grid, which rounds the coordinates.

    Arguments as for `flow_warp`.
    """
    height, width = x.shape[2:]
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype)
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)
    # The middle of cell 0 of W is at (0 + 1/2) * 2/W - 1.
    across = (flow[:, 0] + columns + 0.5) * (2 / width) - 1
    down = (flow[:, 1] + rows[:, None] + 0.5) * (2 / height) - 1
    grid = torch.stack((across, down), dim=3)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def aggregation_form(
    features: Sequence[Tensor],
    embeddings: Sequence[Tensor],
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None,
) -> Tensor:
    """Compute `warp_and_aggregate` step by step, with all warped maps in memory.

    Arguments as for `warp_and_aggregate`.
    """
    fused = warp_form(join_samples(features), flow)
    embedded = warp_form(join_samples(embeddings), flow)
    if key_features is not None:
        fused = torch.cat((fused, key_features))
        embedded = torch.cat((embedded, key_embedding))
    lengths = [x.square().sum(dim=1).sqrt().clamp(min=EPS) for x in (embedded, key_embedding)]
    cosine = (embedded * key_embedding).sum(dim=1) / (lengths[0] * lengths[1])
    return (cosine.softmax(dim=0).unsqueeze(1) * fused).sum(dim=0, keepdim=True)


STANDARD_FORMS: dict[Any, Callable[..., Tensor]] = {
    correlation._correlation._opoverload: correlation_form,
    warp._warp._opoverload: warp_form,
    aggregation._aggregate._opoverload: aggregation_form,
}
