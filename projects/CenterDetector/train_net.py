"""Trains and evaluates the video version of a detector of one's own.

python projects/CenterDetector/train_net.py --config-file FILE [--eval-only] [KEY VALUE ...]
"""

from center_detector import add_center_config

from iff_detectron2.engine import launch_from_command_line

if __name__ == "__main__":
    launch_from_command_line(add_config=add_center_config)
