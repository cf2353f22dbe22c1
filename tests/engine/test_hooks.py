import pytest
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils.events import get_event_storage
from torch import nn

from iff_detectron2.engine import AlignmentLossHook
from iff_detectron2.modeling import TransformationResidualLoss


class Recorder(TrainerBase):
    """A trainer that trains nothing and notes what a step would have used."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.used, self.logged = [], []

    def run_step(self):
        losses = [m for m in self.model.modules() if isinstance(m, TransformationResidualLoss)]
        self.used.append([loss.weight for loss in losses])
        latest = get_event_storage().latest()
        self.logged.append(latest["trl_weight"][0] if "trl_weight" in latest else None)


def train(model, **kwargs):
    trainer = Recorder(model)
    trainer.register_hooks([AlignmentLossHook(**kwargs)])
    trainer.train(0, 5)
    return trainer


def test_weight_grows_to_its_value_and_is_logged():
    model = nn.ModuleList([TransformationResidualLoss(weight=0.8)])
    trainer = train(model, warmup_iters=4)
    assert trainer.used == [[0.0], [0.2], [0.4], pytest.approx([0.6]), [0.8]]
    assert trainer.logged == [w for (w,) in trainer.used]
    assert model[0].weight == 0.8


def test_without_warmup_the_weight_is_constant():
    assert train(TransformationResidualLoss(weight=0.65)).used == [[0.65]] * 5


def test_a_model_without_alignment_loss_is_left_alone():
    trainer = train(nn.Linear(2, 2))
    assert trainer.used == [[]] * 5
    assert trainer.logged == [None] * 5


def test_negative_warmup_names_the_key():
    with pytest.raises(ValueError, match=r"TRL\.WARMUP_ITERS"):
        AlignmentLossHook(-1)
