"""Trains and evaluates the detector of a LazyConfig: this one's, Detectron2's own, or yours.

python projects/FCOS/lazy_train_net.py --config-file FILE.py [--eval-only] [--resume] [KEY=VALUE ..]
"""

from iff_detectron2.engine import launch_from_command_line

if __name__ == "__main__":
    launch_from_command_line()
