"""What a detector gives for a frame, whatever it calls it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.logger import log_first_n
from torch.utils._pytree import tree_map


def named_output(output: Any, detector: str) -> dict[str, Any]:
    """Return the output of a detector for one frame by its names, on the CPU.

    Args:
        output: what the detector gave; bare Instances become `instances`.
        detector: its name, for the message.

    Raises:
        TypeError: if it is neither a dict nor Instances.
    """
    if isinstance(output, Instances):
        output = {"instances": output}
    if not isinstance(output, dict):
        raise TypeError(
            f"{detector} gives {type(output).__name__} for a frame; a predictor needs a dict of "
            "outputs by name, or Instances"
        )
    return tree_map(lambda x: x.to("cpu") if hasattr(x, "to") else x, output)


def instances_of(output: dict[str, Any], size: tuple[int, int], detector: str) -> Instances:
    """Return the detections among the outputs for a frame, none where the detector gave none.

    Args:
        output: the outputs by name.
        size: height and width of the frame.
        detector: its name, for a warning that is given once.
    """
    if "instances" in output:
        return output["instances"]
    log_first_n(
        logging.WARNING,
        f"{detector} gives no 'instances' for some frames, but {', '.join(output) or 'nothing'}; "
        "push_outputs, flush_outputs and outputs of VideoPredictor return all that it gives",
        name=__name__,
        key="message",
    )
    return Instances(
        size,
        pred_boxes=Boxes(torch.zeros(0, 4)),
        scores=torch.zeros(0),
        pred_classes=torch.zeros(0, dtype=torch.int64),
    )
