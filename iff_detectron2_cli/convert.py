"""`iff-detectron2 convert`: public weights to one file for MODEL.WEIGHTS."""

from __future__ import annotations

import argparse
from collections.abc import Container

HELP = "rename public ResNet and FlowNetS weights to a file for MODEL.WEIGHTS"
EXAMPLE = (
    "iff-detectron2 convert weights/R_101.pth --backbone "
    "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("out", metavar="OUT", help="file to write, as weights/R_101_flownets.pth")
    parser.add_argument(
        "--backbone",
        metavar="FILE",
        help="ImageNet weights of a ResNet: of torchvision, of mmdetection's detectors, of FGFA's "
        "MXNet release as .npz, or of Detectron2's zoo as "
        "detectron2://ImageNetPretrained/MSRA/R-101.pkl",
    )
    parser.add_argument(
        "--flownet", metavar="FILE", help="FlowNetS by the names of PyTorch, Caffe or FGFA releases"
    )
    parser.add_argument(
        "--feature",
        default="reduction",
        metavar="NAME",
        help="map of the backbone whose flow FlowNetS predicts (default: %(default)s)",
    )


def settings_of(names: Container[str]) -> str:
    """Return the settings that go with a ResNet that is not Detectron2's own; empty if it is."""
    torchvision = (
        "MODEL.RESNETS.STRIDE_IN_1X1 False INPUT.FORMAT RGB "
        'MODEL.PIXEL_MEAN "[123.675, 116.28, 103.53]" MODEL.PIXEL_STD "[58.395, 57.12, 57.375]"'
    )
    if "layer1.0.conv1.weight" in names:
        return f"torchvision's ResNet goes with {torchvision}"
    if "backbone.layer1.0.conv1.weight" in names:
        return (
            f"mmdetection's ResNet goes with {torchvision} if it was made with style='pytorch', "
            "and with Detectron2's own settings if with style='caffe'"
        )
    if "res2a_branch2a_weight" in names or "arg:res2a_branch2a_weight" in names:
        return (
            "MXNet's ResNet goes with INPUT.FORMAT RGB "
            'MODEL.PIXEL_MEAN "[123.15, 115.90, 103.06]" MODEL.PIXEL_STD "[1.0, 1.0, 1.0]"'
        )
    return ""


def run(args: argparse.Namespace) -> int:
    """Convert what is given and say which settings go with it."""
    from iff_detectron2.engine.converters import (
        convert_backbone,
        convert_flownet,
        read_weights,
        save_weights,
    )

    if not (args.backbone or args.flownet):
        raise ValueError("nothing to convert: give --backbone, --flownet or both")
    weights = {}
    if args.backbone:
        source = read_weights(args.backbone)
        weights.update({f"backbone.{k}": v for k, v in convert_backbone(source).items()})
        if said := settings_of(source):
            print(said)
    if args.flownet:
        prefix = f"temporal.aggregators.{args.feature}.flow_estimator"
        flownet = convert_flownet(read_weights(args.flownet))
        weights.update({f"{prefix}.{k}": v for k, v in flownet.items()})
    save_weights(args.out, weights)
    print(f"{len(weights)} arrays written to {args.out}")
    return 0
