"""Trains and evaluates video detectors with Detectron2's command line.

    python train_net.py --config-file configs/MovingShapes/iff_net_C.yaml [--num-gpus N]
        [--resume] [--eval-only] [KEY VALUE ...]

Without a GPU, --num-gpus is the number of CPU processes.
"""

from iff_detectron2.engine import launch_from_command_line

if __name__ == "__main__":
    launch_from_command_line()
