"""Loads checkpoints without running what a stranger may have put into them."""

from __future__ import annotations

import pickle
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from torch import nn

from iff_detectron2.modeling import FlowEstimator

# What the pickled checkpoints of Detectron2's model zoo are made of.
_ALLOWED = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array or dict")


def load_pickled_arrays(filename: str) -> Any:
    """Read a pickle of arrays and plain containers.

    Raises:
        ValueError: if it is cut, or holds anything else.
    """
    try:
        with PathManager.open(filename, "rb") as f:
            return _ArrayUnpickler(f, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"cannot read the checkpoint {filename}: {error}") from error


def load_torch_file(filename: str) -> Any:
    """Read a file of `torch.save` that holds tensors and plain containers.

    Raises:
        ValueError: if it is cut, or holds anything else.
    """
    try:
        return torch.load(filename, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"cannot read the checkpoint {filename}: {error}") from error


class VideoCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, except that it reads arrays and plain containers only.

    `.pth` files are read by torch with `weights_only`; `.pkl` files of the model zoo by an
    unpickler that knows arrays and containers and nothing else.
    """

    def _load_file(self, filename: str) -> dict[str, Any]:
        if not filename.endswith(".pkl"):
            try:
                return super()._load_file(filename)
            except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
                # From Detectron2 0.6, which reads the file without `_torch_load`.
                raise ValueError(f"cannot read the checkpoint {filename}: {error}") from error
        data = load_pickled_arrays(filename)
        if "model" in data and "__author__" in data:
            return data
        weights = data.get("blobs", data)
        weights = {k: v for k, v in weights.items() if not k.endswith("_momentum")}
        return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}

    def _torch_load(self, f: str) -> dict[str, Any]:
        return load_torch_file(f)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        incompatible = super()._load_model(checkpoint)
        names = len(self.model.state_dict())
        if names and incompatible is not None and len(incompatible.missing_keys) >= names:
            raise ValueError(
                "the checkpoint has no weight of this model: is it of another model? "
                f"Its first names are {sorted(incompatible.unexpected_keys)[:3]}; "
                "check MODEL.WEIGHTS and the config"
            )
        if incompatible is not None:
            _check_frozen_flow(self.model, set(incompatible.missing_keys))
        return incompatible


def _check_frozen_flow(model: nn.Module, missing: set[str]) -> None:
    """Refuse a frozen flow estimator without weights, which would stay random for ever."""
    for prefix, module in model.named_modules():
        if not isinstance(module, FlowEstimator):
            continue
        parameters = {f"{prefix}.{n}": p for n, p in module.named_parameters()}
        frozen = not any(p.requires_grad for p in parameters.values())
        without = sorted(missing & parameters.keys())
        if frozen and without:
            raise ValueError(
                f"MODEL.IFF.FLOW.FREEZE is on, but the checkpoint lacks {without[0]} and "
                f"{len(without) - 1} more weights of the flow estimator; put them into "
                "MODEL.WEIGHTS (iff-detectron2 convert --flownet) or turn FREEZE off"
            )
