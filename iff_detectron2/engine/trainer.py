"""Detectron2's default trainer with the loaders, evaluator and hook that video needs."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import torch
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.engine import DefaultTrainer, HookBase, create_ddp_model
from detectron2.engine.hooks import EvalHook, PeriodicCheckpointer, PeriodicWriter
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.utils import comm
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from iff_detectron2.data import (
    StreamLoader,
    TrainingStream,
    VIDDatasetMapper,
    VideoInferenceSampler,
)
from iff_detectron2.data.catalog import leave_out_bad_labels
from iff_detectron2.evaluation import VIDEvaluator
from iff_detectron2.modeling.seam import image_backbone

from .accumulation import (
    AccumulatingAMPTrainer,
    AccumulatingTrainer,
    CheckedTrainer,
    parts_of_a_step,
    training_precision,
)
from .alignment_panels import AlignmentPanels
from .bad_step import describe_bad_step
from .checkpoint import VideoCheckpointer
from .flow_optimizer import with_flow_adamw
from .hooks import AlignmentAdviceHook, AlignmentLossHook
from .missing_weights import needed_weights
from .optimizer import build_optimizer, scale_flow_lr
from .postprocess import build_postprocess
from .preflight import check_classes, check_test_sets
from .recompute import recompute_blocks
from .resume import ExactResume


class VideoTrainer(DefaultTrainer):
    """Trains and evaluates detectors on video datasets, on any number of GPUs or CPU processes."""

    # Hooks that come after the checkpoint of a step: a run that goes on from it starts with them.
    behind_checkpoints: tuple[type[HookBase], ...] = (EvalHook, PeriodicWriter)

    def __init__(self, cfg) -> None:
        # Not the parent's constructor: it binds DDP to a GPU and loads checkpoints unchecked.
        TrainerBase.__init__(self)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        # What is wrong or missing is better known now than after training.
        build_postprocess(cfg)
        parts, precision = self.parts_of_a_step(cfg), training_precision(cfg)
        model = self.build_model(cfg)
        if cfg.MODEL.BACKBONE.RECOMPUTE:
            recompute_blocks(image_backbone(model))
        optimizer = self.build_optimizer(cfg, model)
        scale_flow_lr(optimizer, model, cfg.MODEL.IFF.FLOW.LR_FACTOR)
        data_loader = self.build_train_loader(cfg)
        check_test_sets(type(self), cfg)
        check_classes(model, cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)
        device_ids = [comm.get_local_rank()] if next(model.parameters()).is_cuda else None
        model = create_ddp_model(model, broadcast_buffers=False, device_ids=device_ids)
        of_step = (model, data_loader, optimizer)
        if precision is not None:
            step = AccumulatingAMPTrainer(*of_step, parts=parts, precision=precision)
        elif parts > 1:
            step = AccumulatingTrainer(*of_step, parts=parts)
        else:
            step = CheckedTrainer(*of_step)
        self._trainer = step
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = VideoCheckpointer(
            self.saved_module(model),
            cfg.OUTPUT_DIR,
            needs=needed_weights(cfg, training=True),
            trainer=weakref.proxy(self),
        )
        self._loaded = False
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @staticmethod
    def auto_scale_workers(cfg, num_workers: int):
        """Detectron2's scaling of a schedule, which scales TRL's warm-up alike."""
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        scaled = DefaultTrainer.auto_scale_workers(cfg, num_workers)
        if scaled is not cfg:
            scaled.defrost()
            trl = scaled.MODEL.IFF.TRL
            trl.WARMUP_ITERS = round(trl.WARMUP_ITERS * reference / num_workers)
            scaled.freeze()
        return scaled

    @staticmethod
    def saved_module(model: nn.Module) -> nn.Module:
        """Return the part of the model that checkpoints hold: all of it."""
        return model

    @staticmethod
    def parts_of_a_step(cfg) -> int:
        """Return the number of parts in which the images of a step pass the model, before anything
        is read.

        Raises:
            ValueError: if SOLVER does not fit the number of processes.
        """
        solver = cfg.SOLVER
        return parts_of_a_step(solver.IMS_PER_BATCH, comm.get_world_size(), solver.ACCUMULATE_STEPS)

    def resume_or_load(self, resume: bool = True) -> None:
        """Load the last checkpoint of OUTPUT_DIR or MODEL.WEIGHTS; see Detectron2's trainer.

        Raises:
            FileNotFoundError, ValueError: if there is no such file, or it lacks weights that
                nothing would train.
        """
        super().resume_or_load(resume)
        self._loaded = True

    def train(self) -> Any:
        """Train, from MODEL.WEIGHTS where `resume_or_load` was not called before."""
        if not self._loaded:
            self.resume_or_load(resume=False)
        return super().train()

    def build_hooks(self) -> list[HookBase | None]:
        hooks = super().build_hooks()
        # The writers come last, so that they see what these hooks log.
        position = len(hooks) - 1 if comm.is_main_process() else len(hooks)
        hooks.insert(position, AlignmentLossHook(self.cfg.MODEL.IFF.TRL.WARMUP_ITERS))
        if comm.is_main_process():
            saved = self.saved_module(self._trainer.model)
            hooks.insert(position + 1, AlignmentAdviceHook(self.cfg, saved))
            hooks.insert(position + 2, AlignmentPanels(self.cfg, saved))
        metrics_file = Path(self.cfg.OUTPUT_DIR) / "metrics.json"
        self._resume = ExactResume(self.cfg.SEED, self._trainer.data_loader, metrics_file)
        return [self._resume, *hooks]

    def before_train(self) -> None:
        super().before_train()
        # What `train` counts on from where there is no step left to do.
        self.iter = self.storage.iter = self.start_iter - 1
        unfinished = self._resume.restore_metrics()
        if not self.start_iter:
            return
        for hook in self._hooks:
            if unfinished and isinstance(hook, self.behind_checkpoints):
                hook.after_step()
            if isinstance(hook, PeriodicCheckpointer) and self.start_iter >= self.max_iter:
                hook.save("model_final", iteration=self.iter)

    def run_step(self) -> None:
        try:
            super().run_step()
        except FloatingPointError as error:
            raise FloatingPointError(describe_bad_step(self, error)) from error

    @classmethod
    def build_optimizer(cls, cfg, model: nn.Module) -> Optimizer:
        """Build what SOLVER describes, and for the flow estimators what MODEL.IFF.FLOW does.

        A project may override it; the factor is applied to what that returns, too.
        """
        optimizer = build_optimizer(cfg, model)
        scale_flow_lr(optimizer, model, cfg.MODEL.IFF.FLOW.LR_FACTOR)
        return with_flow_adamw(cfg, optimizer, model)

    @classmethod
    def build_train_loader(cls, cfg) -> Any:
        if cfg.DATALOADER.BAD_DATA == "skip":
            for name in cfg.DATASETS.TRAIN:
                leave_out_bad_labels(name)
        return TrainingStream.from_config(cfg, VIDDatasetMapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg, dataset_name: str) -> DataLoader | StreamLoader:
        mapper = VIDDatasetMapper(cfg, is_train=False, dataset_names=(dataset_name,))
        dicts = get_detection_dataset_dicts([dataset_name], filter_empty=False)
        sampler, workers = VideoInferenceSampler(dicts), cfg.DATALOADER.NUM_WORKERS
        if mapper.streaming:
            return StreamLoader(dicts, mapper, sampler, workers)
        return build_detection_test_loader(
            dicts, mapper=mapper, sampler=sampler, num_workers=workers
        )

    @classmethod
    def test(cls, cfg, model: nn.Module, evaluators: Any = None) -> dict[str, Any]:
        # Running statistics of BatchNorm are each process's own while training. All must
        # evaluate the model that is saved, which is that of the main process.
        if comm.get_world_size() > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, src=0)
        return super().test(cfg, model, evaluators)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name: str) -> DatasetEvaluator:
        output_dir = f"{cfg.OUTPUT_DIR}/inference/{dataset_name}"
        evaluator_type = MetadataCatalog.get(dataset_name).get("evaluator_type", None)
        postprocess = build_postprocess(cfg)
        if evaluator_type == "vid":
            return VIDEvaluator(
                dataset_name,
                protocol=cfg.TEST.VIDEO.PROTOCOL,
                output_dir=output_dir,
                area_ranges=cfg.TEST.VIDEO.AREA_RANGES,
                motion_iou_file=cfg.TEST.VIDEO.MOTION_IOU_FILE or None,
                postprocess=postprocess,
            )
        if postprocess is not None:
            raise ValueError(
                f"TEST.VIDEO.POSTPROCESS is {cfg.TEST.VIDEO.POSTPROCESS}, which datasets with "
                f"evaluator_type 'vid' have; {dataset_name!r} has {evaluator_type!r}"
            )
        if evaluator_type == "coco":
            return COCOEvaluator(dataset_name, output_dir=output_dir)
        raise ValueError(
            f"dataset {dataset_name!r} has evaluator_type {evaluator_type!r}; 'vid' and 'coco' are "
            "known. Set it in MetadataCatalog or override VideoTrainer.build_evaluator"
        )
