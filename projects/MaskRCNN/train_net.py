"""Trains and evaluates Mask R-CNN on video: boxes by the VID protocol, masks by COCO's.

python projects/MaskRCNN/train_net.py --config-file FILE [--eval-only] [KEY VALUE ...]
"""

from detectron2.evaluation import COCOEvaluator, DatasetEvaluators
from outlined_shapes import register_outlined_shapes

from iff_detectron2.engine import VideoTrainer, launch_from_command_line

register_outlined_shapes()


class MaskTrainer(VideoTrainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        masks = COCOEvaluator(
            dataset_name,
            tasks=("segm",),
            output_dir=f"{cfg.OUTPUT_DIR}/inference/{dataset_name}_masks",
            allow_cached_coco=False,
        )
        return DatasetEvaluators([super().build_evaluator(cfg, dataset_name), masks])


if __name__ == "__main__":
    launch_from_command_line(MaskTrainer)
