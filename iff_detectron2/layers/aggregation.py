"""Fusing warped neighbours into the key frame, in one pass or step by step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import use_triton
from .pixels import PixelMajor, accumulation_type
from .sampling import bilinear_corners, inner_products, weighted_vectors, write_vectors
from .warp import flow_warp

# Norms below this count as this (as in torch.nn.functional.cosine_similarity), so that a vector
# sampled outside of the map, all zeros, has cosine 0 and no NaN.
EPS = 1e-8

# Locations whose warped embeddings stand in memory at a time.
_CHUNK = 512


def warp_and_aggregate(
    features: Tensor,
    embeddings: Tensor,
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None = None,
) -> Tensor:
    """Warps T neighbours to the key frame and fuses them with cosine weights (FGFA).

    With F_t, E_t the features and embeddings sampled at p + flow_t(p), zeros outside, the weight
    of neighbour t at p is softmax over t of cos(E_t(p), E_key(p)), one for all channels, and the
    result the weighted sum of F_t(p). The key frame, if given, takes part unwarped.

    Without gradients the neighbours are streamed and the T warped maps never stand in memory
    (on CUDA one Triton kernel); where a gradient is wanted the steps run one after the other
    (`warp_and_aggregate_reference`). Channels-last input is the fast case.

    Args:
        features: neighbours' features [T, C, H, W]. T may be 0 if the key takes part.
        embeddings: neighbours' embeddings [T, E, H, W].
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
    _check(features, embeddings, flow, key_embedding, key_features)
    inputs = (features, embeddings, flow, key_embedding, key_features)
    wants_grad = any(x is not None and x.requires_grad for x in inputs)
    if torch.is_grad_enabled() and wants_grad:
        return warp_and_aggregate_reference(*inputs)
    return _aggregate(*inputs)


def warp_and_aggregate_reference(
    features: Tensor,
    embeddings: Tensor,
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None = None,
) -> Tensor:
    """Computes `warp_and_aggregate` step by step; differentiable, memory grows with T."""
    dtype = accumulation_type(features.dtype, embeddings.dtype, flow.dtype)
    flow = flow.to(dtype)
    fused = flow_warp(features, flow).to(dtype)
    embedded = flow_warp(embeddings, flow).to(dtype)
    if key_features is not None:
        fused = torch.cat((fused, key_features.to(dtype)))
        embedded = torch.cat((embedded, key_embedding.to(dtype)))
    cosine = F.cosine_similarity(embedded, key_embedding.to(dtype), dim=1, eps=EPS)
    weight = cosine.softmax(0).unsqueeze(1)
    return (weight * fused).sum(0, keepdim=True).to(features.dtype)


def _check(
    features: Tensor,
    embeddings: Tensor,
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None,
) -> None:
    named = {
        "features": features,
        "embeddings": embeddings,
        "flow": flow,
        "key_embedding": key_embedding,
    }
    if key_features is not None:
        named["key_features"] = key_features
    for name, x in named.items():
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name} must be a floating-point tensor, got {kind}.")
        if x.dim() != 4:
            raise ValueError(f"{name} must have four dimensions, got {tuple(x.shape)}.")
        if x.device != features.device:
            raise ValueError(f"{name} must be on {features.device}, got {x.device}.")
    count, channels, height, width = features.shape
    embedded = embeddings.shape[1]
    expected = {
        "embeddings": (count, embedded, height, width),
        "flow": (count, 2, height, width),
        "key_embedding": (1, embedded, height, width),
        "key_features": (1, channels, height, width),
    }
    for name, shape in expected.items():
        if name in named and tuple(named[name].shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape} for features {tuple(features.shape)} and "
                f"embeddings {tuple(embeddings.shape)}, got {tuple(named[name].shape)}."
            )
    if embedded == 0:
        raise ValueError(f"embeddings must have channels, got {tuple(embeddings.shape)}.")
    if count == 0 and key_features is None:
        raise ValueError("there is nothing to fuse: no neighbour and no key_features.")


def _empty(features: Tensor) -> Tensor:
    channels_last = features.is_contiguous(memory_format=torch.channels_last)
    return torch.empty(
        (1, *features.shape[1:]),
        dtype=features.dtype,
        device=features.device,
        memory_format=(
            torch.channels_last
            if channels_last and not features.is_contiguous()
            else torch.contiguous_format
        ),
    )


@torch.library.custom_op(
    "iff_detectron2::warp_and_aggregate", mutates_args=(), device_types=("cpu", "cuda")
)
def _aggregate(
    features: Tensor,
    embeddings: Tensor,
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None,
) -> Tensor:
    out = _empty(features)
    given = [x for x in (features, embeddings, flow, key_embedding, key_features) if x is not None]
    if use_triton(*given):
        from iff_detectron2.kernels import aggregation as kernels

        if features.shape[1] <= kernels.MAX_CHANNELS:
            kernels.aggregate(features, embeddings, flow, key_embedding, key_features, out, EPS)
            return out
    _stream(features, embeddings, flow, key_embedding, key_features, out)
    return out


@_aggregate.register_fake
def _(features, embeddings, flow, key_embedding, key_features):
    return _empty(features)


def _stream(
    features: Tensor,
    embeddings: Tensor,
    flow: Tensor,
    key_embedding: Tensor,
    key_features: Tensor | None,
    out: Tensor,
) -> None:
    """Fills `out` [1, C, H, W].

    A cosine is at most 1, so exp(cosine) needs no running maximum: the softmax is a sum of
    exp(cosine) * F_t over a sum of exp(cosine), and the former folds into the sampling weights.
    """
    dtype = accumulation_type(features.dtype, embeddings.dtype, flow.dtype)
    count = features.shape[0]
    key = PixelMajor(dtype)(key_embedding[0]).flatten(0, 1)
    key_norm = torch.linalg.vector_norm(key, dim=1)
    pixels = PixelMajor(dtype)
    indices, weights, total = [], [], torch.zeros_like(key_norm)
    for t in range(count):
        index, weight = bilinear_corners(flow[t : t + 1].to(dtype))
        index, weight = index[0], weight[0]
        rows = pixels(embeddings[t]).flatten(0, 1)
        share = _cosine(rows, index, weight, key, key_norm).exp_()
        total += share
        indices.append(index)
        weights.append(weight * share[:, None])

    # Neighbours that lie pixel by pixel are summed in one pass over all of them; others are laid
    # so one at a time.
    whole = features.permute(0, 2, 3, 1)
    if count and whole.dtype == dtype and whole.is_contiguous():
        cells = torch.arange(count, device=flow.device).repeat_interleave(4) * key.shape[0]
        fused = weighted_vectors(
            whole.flatten(0, 2), torch.cat(indices, 1) + cells, torch.cat(weights, 1)
        )
    else:
        pixels = PixelMajor(dtype)
        fused = features.new_zeros((key.shape[0], features.shape[1]), dtype=dtype)
        for t in range(count):
            fused += weighted_vectors(pixels(features[t]).flatten(0, 1), indices[t], weights[t])
    if key_features is not None:
        norm = key_norm.clamp(min=EPS)
        share = ((key_norm / norm) ** 2).exp_()
        total += share
        fused.addcmul_(PixelMajor(dtype)(key_features[0]).flatten(0, 1), share[:, None])
    write_vectors(fused.div_(total[:, None]), out[0])


def _cosine(rows: Tensor, index: Tensor, weight: Tensor, key: Tensor, key_norm: Tensor) -> Tensor:
    """Returns the cosine of warped and key embeddings, [locations]."""
    cosine = torch.empty_like(key_norm)
    itself = torch.arange(min(_CHUNK, key.shape[0]), device=key.device)[:, None]
    for start in range(0, key.shape[0], _CHUNK):
        part = slice(start, start + _CHUNK)
        warped = weighted_vectors(rows, index[part], weight[part])
        order = itself[: warped.shape[0]]
        dot = inner_products(warped, order, key[part])[:, 0]
        norm = inner_products(warped, order, warped)[:, 0].sqrt_()
        cosine[part] = dot / (norm.clamp(min=EPS) * key_norm[part].clamp(min=EPS))
    return cosine
