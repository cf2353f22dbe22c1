import logging

import pytest
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils.events import get_event_storage
from torch import nn
from toy_models import build, tiny_cfg

from iff_detectron2.data import register_imagenet_vid
from iff_detectron2.engine import AlignmentLossHook
from iff_detectron2.engine.hooks import AlignmentAdviceHook
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


@pytest.mark.parametrize("aggregator", ["FlowGuidedAggregator", "SimilarityAggregator"])
def test_a_training_ends_with_a_sentence_where_there_is_flow(
    aggregator, tiny_vid, clean_catalogs, caplog
):
    register_imagenet_vid("advice_val", tiny_vid(lengths=(6, 4)), "VID_val_videos")
    cfg = tiny_cfg("DATASETS.TEST", "('advice_val',)", "MODEL.IFF.AGGREGATOR", aggregator)
    trainer = Recorder(build(cfg).train())
    trainer.register_hooks([AlignmentAdviceHook(cfg, trainer.model)])
    with caplog.at_level(logging.INFO, logger="iff_detectron2.engine.hooks"):
        trainer.train(0, 1)
    assert trainer.model.training
    said = [record.getMessage() for record in caplog.records if "alignment" in record.getMessage()]
    if aggregator == "SimilarityAggregator":
        assert not said
        return
    # Training starts from zero flow, which cannot help: the sentence names what to set.
    (sentence,) = said
    assert sentence.startswith("advice_val: alignment does not help here")
    assert "TEST.VIDEO.NUM_REFS" in sentence
    latest = trainer.storage.latest()
    assert latest["iff/residual_held_out"][0] == 1
    assert latest["iff/epe_held_out"][0] == latest["iff/epe_zero_held_out"][0] > 0
