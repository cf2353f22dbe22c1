"""Trains and evaluates a video detector that a LazyConfig describes, in one process.

python projects/FCOS/lazy_train_net.py --config-file FILE [--eval-only] [--resume] [KEY=VALUE ...]
"""

from detectron2.config import LazyConfig, instantiate
from detectron2.engine import SimpleTrainer, default_argument_parser, default_setup, hooks
from detectron2.engine.defaults import default_writers
from detectron2.evaluation import inference_on_dataset, print_csv_format
from torch import nn

from iff_detectron2.engine import AlignmentLossHook, VideoCheckpointer


def test(cfg, model):
    loader = instantiate(cfg.dataloader.test)
    results = inference_on_dataset(model, loader, instantiate(cfg.dataloader.evaluator))
    print_csv_format(results)
    return results


def train(cfg, model, resume):
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)

    def clip_gradients(*_):
        nn.utils.clip_grad_norm_(model.parameters(), cfg.train.clip_gradients)

    optimizer.register_step_pre_hook(clip_gradients)
    trainer = SimpleTrainer(model, instantiate(cfg.dataloader.train), optimizer)
    checkpointer = VideoCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(optimizer, scheduler=instantiate(cfg.lr_multiplier)),
            AlignmentLossHook(),
            hooks.PeriodicCheckpointer(checkpointer, cfg.train.checkpoint_period),
            hooks.EvalHook(0, lambda: test(cfg, model)),
            hooks.PeriodicWriter(default_writers(cfg.train.output_dir, cfg.train.max_iter)),
        ]
    )
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    start = trainer.iter + 1 if resume and checkpointer.has_checkpoint() else 0
    trainer.train(start, cfg.train.max_iter)


def main(args):
    cfg = LazyConfig.apply_overrides(LazyConfig.load(args.config_file), args.opts)
    default_setup(cfg, args)
    model = instantiate(cfg.model).to(cfg.train.device)
    if not args.eval_only:
        return train(cfg, model, args.resume)
    VideoCheckpointer(model, cfg.train.output_dir, needs="all").resume_or_load(
        cfg.train.init_checkpoint, resume=args.resume
    )
    return test(cfg, model)


if __name__ == "__main__":
    main(default_argument_parser().parse_args())
