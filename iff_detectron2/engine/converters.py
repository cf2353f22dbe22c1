"""Public ImageNet and FlowNetS weights under the names of this package's models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names
from detectron2.utils.file_io import PathManager
from torch import Tensor

from iff_detectron2.utils.files import open_atomically

from .checkpoint import load_torch_file
from .pickled_arrays import load_pickled_arrays

Weights = dict[str, Tensor]

FLOWNET_CONVS = [
    *("conv1", "conv2", "conv3", "conv3_1", "conv4", "conv4_1"),
    *("conv5", "conv5_1", "conv6", "conv6_1"),
]
BATCH_NORM_EPS = 1e-5  # PyTorch's default, which those who publish weights did not change


def read_weights(path: str) -> Weights:
    """Read named arrays from a `.pth`, `.pt` or `.tar` (torch), `.pkl` (model zoo) or `.npz` file.

    Args:
        path: a file or an address that Detectron2 knows, as `detectron2://...`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is MXNet's own, holds no arrays, or anything but arrays and plain
            containers.
    """
    if path.endswith(".params"):
        raise ValueError(
            f"{path} is MXNet's, which only MXNet reads: where it is installed, run python -c "
            "\"import mxnet, numpy; numpy.savez('weights.npz', **{name: x.asnumpy() for name, x in "
            f"mxnet.nd.load('{Path(path).name}').items()}})\" and convert weights.npz"
        )
    local = PathManager.get_local_path(path)
    if local.endswith(".npz"):
        data: Any = _read_npz(local)
    elif local.endswith(".pkl"):
        data = load_pickled_arrays(local)
    else:
        data = load_torch_file(local)
    for key in ("state_dict", "model", "blobs"):
        if isinstance(data, Mapping) and isinstance(data.get(key), Mapping):
            data = data[key]
    if not isinstance(data, Mapping):
        raise ValueError(f"{path} holds {type(data).__name__}, but weights by name are needed")
    weights = {
        # Wrappers for several GPUs put this in front of every name.
        str(name).removeprefix("module."): torch.as_tensor(value)
        for name, value in data.items()
        if isinstance(value, (Tensor, np.ndarray))
    }
    if not weights:
        raise ValueError(f"{path} holds no weights by name; its first keys are {[*data][:3]}")
    return weights


def _read_npz(path: str) -> Weights:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.as_tensor(arrays[name]) for name in arrays.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged zip file ends in many kinds of errors
        raise ValueError(f"{path} is damaged, or no file of arrays: {error}") from error


def convert_backbone(weights: Mapping[str, Tensor]) -> Weights:
    """Rename a ResNet of ImageNet to Detectron2's names; layers behind res5 are left out.

    Args:
        weights: of torchvision (`layer1.0.conv1.weight`), mmdetection (the same behind
            `backbone.`), Detectron2 (`res2.0.conv1.weight`), Caffe2 (`res2_0_branch2a_w`) or MXNet
            as FGFA uses it (`res2a_branch2a_weight`).

    Raises:
        ValueError: if the names are none of these.
    """
    weights = {re.sub(r"^(arg:|aux:|backbone\.)", "", k): v for k, v in weights.items()}
    if "layer1.0.conv1.weight" in weights:
        renamed = {_from_torchvision(name): value for name, value in weights.items()}
    elif "res2a_branch2a_weight" in weights:
        renamed = {_from_mxnet(name): value for name, value in weights.items()}
    elif any(name.startswith("res2_0_branch2a") for name in weights):
        blobs = {k: v.numpy() for k, v in weights.items() if not k.endswith("_momentum")}
        converted, _ = convert_c2_detectron_names(blobs)
        renamed = {name: torch.as_tensor(value) for name, value in converted.items()}
    else:
        renamed = weights
    kept = {
        name: value
        for name, value in renamed.items()
        if re.match(r"(stem\.conv1|res[2-5]\.)", name) and "num_batches_tracked" not in name
    }
    if "stem.conv1.weight" not in kept or "res2.0.conv1.weight" not in kept:
        raise ValueError(
            "these are no weights of a ResNet by the names of torchvision, mmdetection, MXNet, "
            f"Detectron2 or Caffe2: the first names are {sorted(weights)[:3]}"
        )
    return kept


def _from_torchvision(name: str) -> str:
    name = re.sub(r"^conv1\.", "stem.conv1.", name)
    name = re.sub(r"^bn1\.", "stem.conv1.norm.", name)
    name = re.sub(r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}.", name)
    name = re.sub(r"\.bn(\d)\.", r".conv\1.norm.", name)
    return name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


def _from_mxnet(name: str) -> str:
    """Name of a layer in MXNet's copy of Caffe's ResNet, as `bn4b22_branch2a_gamma`."""
    parts = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
    parts |= {"moving_var": "running_var", "weight": "weight"}
    branches = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
    match = re.fullmatch(rf"(bn_|)conv1_({'|'.join(parts)})", name)
    if match:
        return f"stem.conv1.{'norm.' * bool(match[1])}{parts[match[2]]}"
    match = re.fullmatch(
        rf"(res|bn)([2-5])([a-c]|b\d+)_branch({'|'.join(branches)})_({'|'.join(parts)})", name
    )
    if not match:
        return name
    kind, stage, block, branch, part = match.groups()
    index = int(block[1:]) if block[1:] else "abc".index(block)
    return f"res{stage}.{index}.{branches[branch]}.{'norm.' * (kind == 'bn')}{parts[part]}"


def convert_flownet(weights: Mapping[str, Tensor]) -> Weights:
    """Rename FlowNetS to the names of `iff_detectron2.modeling.FlowNetS`.

    Biases that a release does not have become zero; its BatchNorm becomes part of the convolution
    in front of it.

    Args:
        weights: by the names of PyTorch releases (`conv1.0.weight`, `predict_flow6.weight`), or of
            the Caffe release and FGFA's (`conv1_weight` or `flow_conv1_weight`,
            `Convolution1_weight`).

    Raises:
        ValueError: if a layer is missing.
    """
    weights = {re.sub(r"^(arg|aux):", "", name): value for name, value in weights.items()}
    caffe = any(name.startswith("Convolution1") for name in weights)
    layer = _caffe_layer(weights) if caffe else _pytorch_layer(weights)
    converted: Weights = {}
    levels = range(5, 1, -1)
    names = [*FLOWNET_CONVS, "flow6", *(f"{n}{i}" for i in levels for n in ("deconv", "upflow"))]
    for name in [*names, *(f"flow{i}" for i in levels)]:
        weight, bias = layer(name)
        transposed = name.startswith(("deconv", "upflow"))
        width = weight.shape[1 if transposed else 0]
        converted[f"{name}.weight"] = weight
        converted[f"{name}.bias"] = torch.zeros(width) if bias is None else bias
    return converted


Layer = Callable[[str], tuple[Tensor, Tensor | None]]


def _caffe_layer(weights: Mapping[str, Tensor]) -> Layer:
    def layer(name: str) -> tuple[Tensor, Tensor | None]:
        kind, level = re.sub(r"\d+$", "", name), int(name[-1])
        if name == "conv1" and any(n.startswith("flow_conv1") for n in weights):
            name = "flow_conv1"  # FGFA's file holds a ResNet too
        elif kind == "flow":
            name = f"Convolution{7 - level}"
        elif kind == "upflow":
            name = f"upsample_flow{level + 1}to{level}"
        separator = "_" if f"{name}_weight" in weights else "."
        weight = _find(weights, f"{name}{separator}weight")
        return weight, weights.get(f"{name}{separator}bias")

    return layer


def _pytorch_layer(weights: Mapping[str, Tensor]) -> Layer:
    def layer(name: str) -> tuple[Tensor, Tensor | None]:
        kind, level = re.sub(r"\d+$", "", name), int(name[-1])
        if kind == "flow":
            name = f"predict_flow{level}"
        elif kind == "upflow":
            name = f"upsampled_flow{level + 1}_to_{level}"
        else:
            return _fold_batch_norm(weights, name)
        return _find(weights, f"{name}.weight"), weights.get(f"{name}.bias")

    return layer


def _fold_batch_norm(weights: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor | None]:
    weight, bias = _find(weights, f"{name}.0.weight"), weights.get(f"{name}.0.bias")
    if f"{name}.1.running_var" not in weights:
        return weight, bias
    gamma, beta, mean, var = (
        _find(weights, f"{name}.1.{part}")
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / (var + BATCH_NORM_EPS).sqrt()
    shift = beta - mean * scale if bias is None else beta + (bias - mean) * scale
    return weight * scale.view(-1, 1, 1, 1), shift


def _find(weights: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise ValueError(
            f"these are no weights of FlowNetS: {name} is missing; the first names are "
            f"{sorted(weights)[:3]}"
        )
    return weights[name]


def save_weights(path: str | Path, weights: Weights) -> None:
    """Write a checkpoint for MODEL.WEIGHTS; it appears under its name when it is complete."""
    path = Path(path)
    if path.suffix != ".pth":
        raise ValueError(f"weights are saved as .pth, got {path}")
    with open_atomically(path, binary=True) as f:
        torch.save({"model": {k: v.contiguous().clone() for k, v in weights.items()}}, f)
