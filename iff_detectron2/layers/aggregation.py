"""Fusing warped neighbours into the key frame, in one pass or step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .backend import use_triton
from .cosine import EPS, channel_cosine
from .pixels import PixelMajor, accumulation_type, empty_map, join_samples
from .sampling import bilinear_corners, inner_products, weighted_vectors, write_vectors
from .warp import flow_warp

# Locations whose warped embeddings stand in memory at a time.
_CHUNK = 512


def warp_and_aggregate(
    features: Tensor | Sequence[Tensor],
    embeddings: Tensor | Sequence[Tensor],
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None = None,
) -> Tensor:
    """Warps T neighbours to the key frame and fuses them with cosine weights (FGFA).

    With F_t, E_t the features and embeddings sampled at p + flow_t(p), zeros outside, the weight
    of neighbour t at p is softmax over t of cos(E_t(p), E_key(p)), one for all channels, and the
    result the weighted sum of F_t(p). The key frame, if given, takes part unwarped.

    Without gradients the neighbours are streamed and the T warped maps never stand in memory
    (on CUDA by Triton kernels); where a gradient is wanted the steps run one after the other
    (`warp_and_aggregate_reference`). Channels-last input is the fast case.

    Args:
        features: neighbours' features [T, C, H, W], or in parts that make this in order, such as
            T frames of [1, C, H, W], which the CPU need not copy together then. T may be 0 if the
            key takes part.
        embeddings: neighbours' embeddings [T, E, H, W], or in the same parts.
        flow: displacements [T, 2, H, W] in cells; channel 0 is dx, channel 1 is dy.
        key_embedding: [1, E, H, W].
        key_features: [1, C, H, W], or None to fuse the neighbours alone.

    Returns:
        [1, C, H, W] in the type of `features`, summed in float32 (float64 for float64);
        channels-last if `features` is.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes or devices do not agree, or there is nothing to fuse.
    """
    features = [features] if isinstance(features, Tensor) else list(features)
    embeddings = [embeddings] if isinstance(embeddings, Tensor) else list(embeddings)
    _check(features, embeddings, flow, key_embedding, key_features)
    inputs = (*features, *embeddings, flow, key_embedding, key_features)
    wants_grad = any(x is not None and x.requires_grad for x in inputs)
    if torch.is_grad_enabled() and wants_grad:
        stacked = torch.cat(features), torch.cat(embeddings)
        return warp_and_aggregate_reference(*stacked, flow, key_embedding, key_features)
    return _aggregate(features, embeddings, flow, key_embedding, key_features)


def warp_and_aggregate_reference(
    features: Tensor,
    embeddings: Tensor,
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None = None,
) -> Tensor:
    """Compute `warp_and_aggregate` step by step; differentiable, memory grows with T.

    Args:
        features: [T, C, H, W] of the reference frames.
        embeddings: [T, E, H, W] of the reference frames.
        flow: [T, 2, H, W] in cells.
        key_embedding: [1, E, H, W].
        key_features: [1, C, H, W], fused as well; None to leave the key frame out.
    """
    dtype = accumulation_type(features.dtype, embeddings.dtype, flow.dtype)
    flow = flow.to(dtype)
    fused = flow_warp(features, flow).to(dtype)
    embedded = flow_warp(embeddings, flow).to(dtype)
    if key_features is not None:
        fused = torch.cat((fused, key_features.to(dtype)))
        embedded = torch.cat((embedded, key_embedding.to(dtype)))
    cosine = channel_cosine(embedded, key_embedding.to(dtype))
    weight = cosine.softmax(0).unsqueeze(1)
    return (weight * fused).sum(0, keepdim=True).to(features.dtype)


def _check(
    features: Sequence[Tensor],
    embeddings: Sequence[Tensor],
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None,
) -> None:
    named = [("features", x) for x in features]
    named += [("embeddings", x) for x in embeddings]
    named += [("flow", flow), ("key_embedding", key_embedding)]
    if key_features is not None:
        named.append(("key_features", key_features))
    if not features:
        raise ValueError("features must have at least one part, which may be empty; got none")
    for name, x in named:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name} must be a floating-point tensor, got {kind}")
        if x.dim() != 4:
            raise ValueError(f"{name} must have four dimensions, got {tuple(x.shape)}")
        if x.device != features[0].device:
            raise ValueError(f"{name} must be on {features[0].device}, got {x.device}")
    sizes = [x.shape[0] for x in features]
    if len(embeddings) != len(sizes):
        raise ValueError(f"embeddings must have {len(sizes)} parts, got {len(embeddings)}")
    count, (channels, height, width) = sum(sizes), features[0].shape[1:]
    embedded = embeddings[0].shape[1]
    expected = [(size, channels, height, width) for size in sizes]
    expected += [(size, embedded, height, width) for size in sizes]
    expected += [(count, 2, height, width), (1, embedded, height, width)]
    expected += [(1, channels, height, width)] if key_features is not None else []
    for (name, x), shape in zip(named, expected, strict=True):
        if tuple(x.shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape} for features {tuple(features[0].shape)} and "
                f"embeddings {tuple(embeddings[0].shape)}, got {tuple(x.shape)}"
            )
        if x.dtype != features[0].dtype and name == "features":
            raise TypeError(f"all parts of features must have one type, got {x.dtype}")
    if embedded == 0:
        raise ValueError(f"embeddings must have channels, got {tuple(embeddings[0].shape)}")
    if count == 0 and key_features is None:
        raise ValueError("there is nothing to fuse: no neighbour and no key_features")


@torch.library.custom_op(
    "iff_detectron2::warp_and_aggregate", mutates_args=(), device_types=("cpu", "cuda")
)
def _aggregate(
    features: Sequence[Tensor],
    embeddings: Sequence[Tensor],
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None,
) -> Tensor:
    out = empty_map(features[0], 1, features[0].shape[1])
    given = [*features, *embeddings, flow, key_embedding]
    given += [] if key_features is None else [key_features]
    if use_triton(*given):
        from iff_detectron2.kernels import aggregation as kernels

        stacked = [join_samples(x) for x in (features, embeddings)]
        kernels.aggregate(*stacked, flow, key_embedding, key_features, out, EPS)
    else:
        _stream(features, embeddings, flow, key_embedding, key_features, out)
    return out


@_aggregate.register_fake
def _(features, embeddings, flow, key_embedding, key_features):
    return empty_map(features[0], 1, features[0].shape[1])


def _stream(
    features: Sequence[Tensor],
    embeddings: Sequence[Tensor],
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None,
    out: Tensor,
) -> None:
    """Fill `out` [1, C, H, W].

    A cosine is at most 1, so exp(cosine) needs no running maximum: the softmax is a sum of
    exp(cosine) * F_t over a sum of exp(cosine), and the former folds into the sampling weights.
    """
    dtype = accumulation_type(features[0].dtype, embeddings[0].dtype, flow.dtype)
    key = PixelMajor(dtype)(key_embedding[0]).flatten(0, 1)
    key_norm = torch.linalg.vector_norm(key, dim=1)
    pixels = PixelMajor(dtype)
    indices, weights, total = [], [], torch.zeros_like(key_norm)
    for t, embedding in enumerate(x for part in embeddings for x in part):
        index, weight = bilinear_corners(flow[t : t + 1].to(dtype))
        index, weight = index[0], weight[0]
        rows = pixels(embedding).flatten(0, 1)
        share = _cosine(rows, index, weight, key, key_norm).exp_()
        total += share
        indices.append(index)
        weights.append(weight * share[:, None])

    fused = _weighted_sum(features, indices, weights, key.shape[0], dtype)
    if key_features is not None:
        norm = key_norm.clamp(min=EPS)
        share = ((key_norm / norm) ** 2).exp_()
        total += share
        fused.addcmul_(PixelMajor(dtype)(key_features[0]).flatten(0, 1), share[:, None])
    write_vectors(fused.div_(total[:, None]), out[0])


def _weighted_sum(
    features: Sequence[Tensor],
    indices: list[Tensor],
    weights: list[Tensor],
    locations: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return the sum over the neighbours of their weighted vectors, [locations, C]."""
    # Neighbours that lie pixel by pixel are summed in one pass over all of a part.
    whole = [x.permute(0, 2, 3, 1) for x in features]
    fused: Tensor | None = None
    if all(x.dtype == dtype and x.is_contiguous() for x in whole):
        start = 0
        for x in whole:
            stop = start + x.shape[0]
            if start == stop:
                continue
            cells = torch.arange(x.shape[0], device=x.device).repeat_interleave(4) * locations
            index = torch.cat(indices[start:stop], 1) + cells
            part = weighted_vectors(x.flatten(0, 2), index, torch.cat(weights[start:stop], 1))
            fused = part if fused is None else fused.add_(part)
            start = stop
    else:  # others are laid so one at a time
        pixels = PixelMajor(dtype)
        for t, x in enumerate(x for part in features for x in part):
            part = weighted_vectors(pixels(x).flatten(0, 1), indices[t], weights[t])
            fused = part if fused is None else fused.add_(part)
    if fused is None:
        return features[0].new_zeros((locations, features[0].shape[1]), dtype=dtype)
    return fused


def _cosine(rows: Tensor, index: Tensor, weight: Tensor, key: Tensor, key_norm: Tensor) -> Tensor:
    """Return the cosine of warped and key embeddings, [locations]."""
    cosine = torch.empty_like(key_norm)
    itself = torch.arange(min(_CHUNK, key.shape[0]), device=key.device)[:, None]
    for start in range(0, key.shape[0], _CHUNK):
        part = slice(start, start + _CHUNK)
        warped = weighted_vectors(rows, index[part], weight[part])
        order = itself[: warped.shape[0]]
        dot = inner_products(warped, order, key[part])[:, 0]
        norm = torch.linalg.vector_norm(warped, dim=1)
        cosine[part] = dot / (norm.clamp(min=EPS) * key_norm[part].clamp(min=EPS))
    return cosine
