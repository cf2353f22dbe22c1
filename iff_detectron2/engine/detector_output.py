"""What a detector gives for a frame, whatever it calls it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.logger import log_first_n
from torch.utils._pytree import tree_map


class OnItsWay:
    """The output of a detector for one frame, by its names, on its way to the CPU."""

    def __init__(self, output: dict[str, Any], device: torch.device) -> None:
        """Start the copy, which is made when the device comes to it.

        Args:
            output: as `named_output` gives it.
            device: where the detector is.
        """
        self._output = tree_map(_start_to_cpu, output)
        self._copied = torch.cuda.Event() if device.type == "cuda" else None
        if self._copied is not None:
            self._copied.record(torch.cuda.current_stream(device))

    def arrived(self) -> dict[str, Any]:
        """Wait until all is on the CPU, and return it."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._output


def _start_to_cpu(x: Any) -> Any:
    """Copy to the CPU; what holds tensors in a way that is not known here waits for it."""
    if isinstance(x, torch.Tensor):
        return x.to("cpu", non_blocking=True)
    if isinstance(x, Boxes):
        return type(x)(_start_to_cpu(x.tensor))
    if isinstance(x, Instances):
        fields = {name: _start_to_cpu(value) for name, value in x.get_fields().items()}
        return Instances(x.image_size, **fields)
    return x.to("cpu") if hasattr(x, "to") else x


def named_output(output: Any, detector: str) -> dict[str, Any]:
    """Return the output of a detector for one frame by its names.

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
    return output


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
