"""Loads checkpoints without running what a stranger may have put into them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import Tensor, nn

from iff_detectron2.utils.files import open_atomically

from .missing_weights import Mismatch, Needs
from .pickled_arrays import TORCH_GLOBALS, load_pickled_arrays, put_arrays

LAST_CHECKPOINT = "last_checkpoint"


def load_torch_file(filename: str) -> Any:
    """Read a file of `torch.save` that holds tensors, arrays, numbers and plain containers.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is cut, or holds anything else.
    """
    try:
        with torch.serialization.safe_globals(TORCH_GLOBALS):
            return put_arrays(torch.load(filename, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise
    except Exception as error:  # torch's unpickler lets whatever it stumbles over out
        raise _unreadable(filename, error) from error


def _unreadable(filename: str, error: Exception) -> ValueError:
    """Say what is wrong with a file; torch's own text advises to run whatever code is in it."""
    what = re.search(r"GLOBAL ([\w.]+)", str(error))
    found = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    if what is None and found is not None:
        reason = found[1]
    elif what is None:
        first = str(error).strip().splitlines()[:1]
        reason = f"it is cut, or no file of torch.save ({first[0] if first else 'no content'})"
    else:
        reason = (
            f"it holds {what[1]}, which is no tensor, array or number and could run code; whoever "
            "trusts the file can save its weights alone, torch.save({'model': weights}, FILE)"
        )
    return ValueError(f"cannot read the checkpoint {filename}: {reason}")


def _checked(filename: str, content: Any) -> dict[str, Any]:
    """Return the content of a checkpoint if its weights are arrays by name."""
    weights = content.get("model") if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise ValueError(f"cannot read the checkpoint {filename}: it holds no weights by name")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor | np.ndarray):
            raise ValueError(
                f"cannot read the checkpoint {filename}: of its weights, {name!r:.80} is a "
                f"{type(value).__name__}, not an array with a name"
            )
    return content


class VideoCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, except that it takes no file on trust.

    It reads arrays and plain containers only: `.pth` files by torch with `weights_only`, `.pkl`
    files of the model zoo by an unpickler that knows nothing else. And what a checkpoint does not
    have is an error where nothing would ever give it a value.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, needs: Needs = "frozen", **kwargs: Any
    ) -> None:
        """
        Args:
            model: the model whose weights are loaded and saved.
            save_dir: folder for checkpoints.
            needs: weights that a checkpoint must have: "all" for a model that will be tested,
                "frozen" (those that training does not change) for one that will be trained, or
                "nothing"; `needed_weights` finds it from a config. A checkpoint to resume from
                must have all.
            kwargs: those of `DetectionCheckpointer`.
        """
        super().__init__(model, save_dir, **kwargs)
        self.needs: Needs = needs
        self._source = ""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint; see :meth:`detectron2.checkpoint.DetectionCheckpointer.load`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it cannot be read, or lacks weights that are needed.
        """
        self._source = path
        if not path:
            Mismatch.of(self.model, "", (), list(self.model.state_dict()), (), {}).check(
                self.model, self.needs
            )
        elif not os.path.isfile(self.path_manager.get_local_path(path.partition("?")[0])):
            raise FileNotFoundError(f"the checkpoint {path} does not exist; check MODEL.WEIGHTS")
        try:
            return super().load(path, *args, **kwargs)
        finally:
            # Detectron2 forgets this after success alone, and then refuses every other file.
            self._parsed_url_during_load = None

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Go on from the last checkpoint of `save_dir`, or load `path` without what goes with it.

        Raises:
            FileNotFoundError, ValueError: as `load`.
        """
        needs = self.needs
        if resume and self.has_checkpoint() and needs == "frozen":
            self.needs = "all"
        try:
            return super().resume_or_load(path, resume=resume)
        finally:
            self.needs = needs

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pth") and not hasattr(DetectionCheckpointer, "_torch_load"):
            # Detectron2 0.6 would read the file by itself.
            loaded = self._torch_load(filename)
            return _checked(filename, loaded if "model" in loaded else {"model": loaded})
        if not filename.endswith(".pkl"):
            return _checked(filename, super()._load_file(filename))
        data = load_pickled_arrays(filename)
        if isinstance(data, dict) and not ("model" in data and "__author__" in data):
            weights = data.get("blobs", data)
            if isinstance(weights, dict):
                weights = {k: v for k, v in weights.items() if not str(k).endswith("_momentum")}
            data = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
        return _checked(filename, data)

    def _torch_load(self, f: str) -> dict[str, Any]:
        content = load_torch_file(f)
        # Detectron2 looks for names in whatever it is.
        return content if isinstance(content, dict) else _checked(f, content)

    def save(self, name: str, **kwargs: Any) -> None:
        """Save model and trainer; a checkpoint of that name is replaced when this one is whole."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: item.state_dict() for key, item in self.checkpointables.items()}
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", path)
        with open_atomically(path, binary=True) as stream:
            torch.save({"model": self.model.state_dict(), **states, **kwargs}, stream)
        self.tag_last_checkpoint(path.name)

    def save_model(self, name: str) -> None:
        """Save the model alone, beside the checkpoints to go on from."""
        if not self.save_dir or not self.save_to_disk:
            return
        with open_atomically(Path(self.save_dir) / f"{name}.pth", binary=True) as stream:
            torch.save({"model": self.model.state_dict()}, stream)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        with open_atomically(Path(self.save_dir) / LAST_CHECKPOINT) as stream:
            stream.write(last_filename_basename)

    def get_checkpoint_file(self) -> str:
        """Return the last checkpoint: the newest of the folder where `last_checkpoint` names none.

        Raises:
            FileNotFoundError: if it names one that is not there, and there is no other.
        """
        pointer = Path(self.save_dir) / LAST_CHECKPOINT
        if not pointer.is_file():
            return ""
        name = pointer.read_text(encoding="utf-8", errors="replace").strip("\0\r\n ")
        if name and (pointer.parent / name).is_file():
            return str(pointer.parent / name)
        there = sorted(pointer.parent.glob("model_*.pth"), key=lambda path: path.stat().st_mtime_ns)
        if not there:
            raise FileNotFoundError(
                f"{pointer} names the checkpoint {name!r}, which is not there, nor is any other; "
                "put it back, or remove that file to begin anew"
            )
        self.logger.warning("%s names %r, which is not there; taking %s", pointer, name, there[-1])
        return str(there[-1])

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        given = [str(name) for name in checkpoint["model"]]
        incompatible = super()._load_model(checkpoint)
        misfits = {name: (there, here) for name, there, here in incompatible.incorrect_shapes}
        mismatch = Mismatch.of(
            self.model,
            self._source or "the checkpoint",
            given,
            incompatible.missing_keys,
            incompatible.unexpected_keys,
            misfits,
        )
        mismatch.check(self.model, self.needs)
        return incompatible
