"""How a report was made: when, by which command, from which files, with which versions."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from iff_detectron2 import __version__

CONFIG = "config.yaml"


def provenance(command: str, predictions: Sequence[Path]) -> list[tuple[str, str]]:
    """Return names and values for the foot of the page.

    The config and the weights are those that the trainer has left in the folder of the predictions
    or up to two above it (`OUTPUT_DIR/inference/<dataset>/`), as far as they are there.

    Args:
        command: what the user typed.
        predictions: the files that were evaluated.
    """
    made = [
        ("Made", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
        ("Command", command),
    ]
    for letter, path in zip("AB", predictions, strict=False):
        name = f"Boxes {letter}" if len(predictions) > 1 else "Boxes"
        made.append((name, _file(path)))
        folder = next((p for p in path.resolve().parents[:3] if (p / CONFIG).is_file()), None)
        if folder is not None:
            made.append(("Config", _file(folder / CONFIG)))
            weights = _last_checkpoint(folder)
            if weights is not None:
                made.append(("Weights", f"{_file(weights)}, the last of that folder"))
    versions = (
        f"iff_detectron2 {__version__}, torch {torch.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}"
    )
    return [*made, ("Versions", versions)]


def _last_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint that the trainer notes as its last."""
    note = folder / "last_checkpoint"
    if not note.is_file():
        return None
    path = folder / Path(note.read_text(encoding="utf-8", errors="replace").strip() or "-").name
    return path if path.is_file() else None


def _file(path: Path) -> str:
    """Return a file's path with the beginning of its SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return f"{path} (sha256 {digest.hexdigest()[:12]})"
