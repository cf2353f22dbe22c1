"""The cosine of feature vectors, with a gradient that ends where a vector has no direction."""

from __future__ import annotations

import torch
from torch import Tensor

# Norms below this count as this (as in torch.nn.functional.cosine_similarity), so that a vector
# sampled outside of the map, all zeros, has cosine 0 and no NaN.
EPS = 1e-8

# A vector has a direction to learn from if its norm is above the first, and above the second times
# the norm of the vector it is compared with: what is smaller is left of rounding, or of a sample a
# hair inside of the map, and the gradient, which grows as 1 / norm, would be noise without bound.
LEAST_NORM = 1e-6
LEAST_SHARE = 1e-4


def channel_cosine(x: Tensor, key: Tensor) -> Tensor:
    """Compare vectors along the channels by their cosine (FGFA's similarity).

    The value is <x, key> / (max(|x|, EPS) max(|key|, EPS)), 0 where a vector is zero. The gradient
    is its derivative, but 0 where one of the two vectors has no direction (see `LEAST_NORM`,
    `LEAST_SHARE`), as at -1, one cell outside of the map, where a warped vector just vanishes: the
    derivative of the quotient there is about 1 / EPS.

    Args:
        x: [T, E, H, W], float32 or float64.
        key: [1, E, H, W] or [T, E, H, W], of the same type.

    Returns:
        [T, H, W].
    """
    norm, key_norm = (torch.linalg.vector_norm(v, dim=1) for v in (x, key))
    cosine = (x * key).sum(dim=1) / (norm.clamp(min=EPS) * key_norm.clamp(min=EPS))
    with torch.no_grad():
        smaller, larger = torch.minimum(norm, key_norm), torch.maximum(norm, key_norm)
        directed = (smaller > LEAST_NORM) & (smaller > LEAST_SHARE * larger)
    return torch.where(directed, cosine, cosine.detach())
