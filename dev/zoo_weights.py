"""Put the weights of a finished training into the model zoo, as numbers of half precision.

    python dev/zoo_weights.py output/MovingShapes/iff_net_C/model_final.pth MovingShapes/iff_net_C

They lie in configs/FAMILY/weights/. Evaluate them before you publish them:

    python train_net.py --eval-only --config-file configs/MovingShapes/iff_net_C.yaml \
        MODEL.WEIGHTS iff://MovingShapes/iff_net_C
"""

from __future__ import annotations

import argparse

import torch

from iff_detectron2.engine.config_file import CONFIGS
from iff_detectron2.engine.converters import read_weights


def main() -> None:
    """Read the checkpoint and write what a tested model needs of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("checkpoint")
    parser.add_argument("name", help="of the config, as MovingShapes/iff_net_C")
    args = parser.parse_args()
    config = CONFIGS / f"{args.name}.yaml"
    if not config.is_file():
        parser.error(f"there is no config {config}")
    halves = {
        name: value.half() if value.is_floating_point() else value
        for name, value in read_weights(args.checkpoint).items()
    }
    lost = [name for name, value in halves.items() if not value.double().isfinite().all()]
    if lost:
        parser.error(f"beyond the range of half precision: {', '.join(lost)}")
    out = config.parent / "weights" / f"{config.stem}.pth"
    out.parent.mkdir(exist_ok=True)
    torch.save({"model": halves}, out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
