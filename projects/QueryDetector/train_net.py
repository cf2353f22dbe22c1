"""Trains and evaluates the video version of a detector in the style of DETR.

python projects/QueryDetector/train_net.py --config-file FILE [--eval-only] [KEY VALUE ...]
"""

from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from query_detector import add_query_config
from torch.optim import AdamW

from iff_detectron2.engine import VideoTrainer, launch_from_command_line


class QueryTrainer(VideoTrainer):
    """Trains by AdamW, without which attention hardly learns."""

    @classmethod
    def build_optimizer(cls, cfg, model):
        solver = cfg.SOLVER
        parameters = get_default_optimizer_params(model, base_lr=solver.BASE_LR)
        return maybe_add_gradient_clipping(cfg, AdamW)(
            parameters, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY
        )


if __name__ == "__main__":
    launch_from_command_line(QueryTrainer, add_config=add_query_config)
