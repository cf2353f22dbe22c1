"""Counts the memory that the backbone of IFF-Net-C takes in a training step, kept or recomputed.

    python benchmarks/recompute.py [--size 600 1000] [--refs 2] [--config-file FILE]

Nothing is computed: the tensors of the step have a shape and no data.
"""

from __future__ import annotations

import argparse

import torch
from detectron2.modeling import build_backbone
from torch._subclasses.fake_tensor import FakeTensorMode

from iff_detectron2.engine import load_config
from iff_detectron2.engine.memory_plan import GIB, Peak
from iff_detectron2.engine.recompute import recompute_blocks


def peak(config_file: str, size: tuple[int, int], refs: int, recompute: bool) -> float:
    """Return the GiB that the frames of one key frame take at most, weights and gradients aside."""
    cfg = load_config(config_file, ["MODEL.DEVICE", "cpu"])
    with FakeTensorMode():
        backbone = build_backbone(cfg).train()
        if recompute:
            recompute_blocks(backbone)
        images = torch.empty(1 + refs, 3, *size)
        with Peak() as count:
            maps = backbone(images)
            sum(x.sum() for x in maps.values()).backward()
        gradients = sum(p.grad.nbytes for p in backbone.parameters() if p.grad is not None)
    return (count.peak["cpu"] - gradients) / GIB


def main() -> None:
    """Print both peaks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", default="configs/ImageNetVID/iff_net_C_R_101.yaml")
    parser.add_argument("--size", type=int, nargs=2, default=(600, 1000))
    parser.add_argument("--refs", type=int, default=2)
    args = parser.parse_args()
    for recompute in (False, True):
        gib = peak(args.config_file, tuple(args.size), args.refs, recompute)
        print(f"MODEL.BACKBONE.RECOMPUTE {recompute!s:<5}: {gib:.2f} GiB")


if __name__ == "__main__":
    main()
