"""What a training tells of its flow: how far it reaches, how wrong it is, and when it is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from detectron2.utils.events import get_event_storage
from torch import Tensor

from .track_motion import Tracks, end_point_errors, mean_errors

# Iterations between two looks at the flow: as often as Detectron2 writes metrics, since each look
# waits for the GPU.
LOG_PERIOD = 20

# Share of the cells whose flow may end outside of the map. Real motion takes a few over the edge.
MOST_OUTSIDE = 0.5


@dataclass(frozen=True)
class LoggedFlow:
    """The flow of one key frame on one feature map.

    Attributes:
        flow: [T, 2, H, W], in cells.
        tracks: those of the key frame, then those of each of the T reference frames; empty where
            the samples carry none.
        stride: pixels per cell; not asked for without tracks.
    """

    flow: Tensor
    tracks: Sequence[Tracks] = ()
    stride: float = 0.0


def share_outside(flow: Tensor) -> Tensor:
    """Return the share of cells whose sample lies wholly outside of the map, a scalar.

    `flow_warp` gives zeros there, and the flow gets no gradient that could bring it back.

    Args:
        flow: [T, 2, H, W], in cells; T and the map are not empty.
    """
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0].float()
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1].float()
    inside = (x > -1) & (x < width) & (y > -1) & (y < height)
    return 1 - inside.float().mean()


class AlignmentLog:
    """Writes metrics of the flow while a detector trains, the first to look at if alignment fails.

    `iff/mean_flow` is its mean length in cells, `iff/outside` the share of cells that it leads out
    of the map; with tracks, `iff/epe` and its kin are end-point errors (`mean_errors`).
    """

    def __init__(self) -> None:
        self.warned = False

    @staticmethod
    def is_due() -> bool:
        """Whether this iteration is one to look at."""
        return (get_event_storage().iter + 1) % LOG_PERIOD == 0

    def write(self, flows: Iterable[LoggedFlow]) -> None:
        """Note the flows of a batch, and warn once where most cells are led out of the map."""
        storage = get_event_storage()
        flows = [one for one in flows if one.flow.numel()]
        if not flows:
            return
        with torch.no_grad():
            reach = [one.flow.float().norm(dim=1).mean() for one in flows]
            shares = [share_outside(one.flow) for one in flows]
            mean, outside = torch.stack([torch.stack(x).mean() for x in (reach, shares)]).tolist()
        storage.put_scalar("iff/mean_flow", mean)
        storage.put_scalar("iff/outside", outside)
        errors = [end_point_errors(x.flow, x.tracks, x.stride) for x in flows if x.tracks]
        for name, value in mean_errors(errors).items():
            storage.put_scalar(f"iff/{name}", value)
        if self.warned or outside <= MOST_OUTSIDE:
            return
        self.warned = True
        logging.getLogger(__name__).warning(
            f"Iteration {storage.iter}: the flow leads {outside:.0%} of the cells out of the map "
            f"(mean length {mean:.0f} cells), where frames are zeros and nothing trains it to come "
            "back: start anew with a lower learning rate of the flow layers, "
            "MODEL.IFF.FLOW.LR_FACTOR, or MODEL.IFF.FLOW.ADAMW_LR where that is set"
        )
