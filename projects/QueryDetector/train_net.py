"""Trains and evaluates the video version of a detector in the style of DETR.

python projects/QueryDetector/train_net.py --config-file FILE [--eval-only] [KEY VALUE ...]
"""

from query_detector import add_query_config

from iff_detectron2.engine import launch_from_command_line

if __name__ == "__main__":
    launch_from_command_line(add_config=add_query_config)
