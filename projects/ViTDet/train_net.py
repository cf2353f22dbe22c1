"""Trains and evaluates a video detector on a ViT.

python projects/ViTDet/train_net.py --config-file FILE [--eval-only] [KEY VALUE ...]
"""

from vit_backbone import add_vit_config

from iff_detectron2.engine import launch_from_command_line

if __name__ == "__main__":
    launch_from_command_line(add_config=add_vit_config)
