"""Detectron2's ViT with the simple feature pyramid of ViTDet, made by config keys."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, SimpleFeaturePyramid, ViT


def add_vit_config(cfg: CfgNode) -> None:
    """Add the keys of this backbone to a Detectron2 config, in place."""
    cfg.MODEL.VIT = CfgNode()
    # Images are padded to a square of this side.
    cfg.MODEL.VIT.IMAGE_SIZE = 1024
    cfg.MODEL.VIT.PATCH_SIZE = 16
    cfg.MODEL.VIT.EMBED_DIM = 768
    cfg.MODEL.VIT.DEPTH = 12
    cfg.MODEL.VIT.NUM_HEADS = 12
    # Blocks whose attention stays in windows of so many patches.
    cfg.MODEL.VIT.WINDOW_SIZE = 14
    cfg.MODEL.VIT.WINDOW_BLOCKS = [0, 1, 3, 4, 6, 7, 9, 10]
    cfg.MODEL.VIT.DROP_PATH_RATE = 0.1
    # Maps of the pyramid, by their size to that of the patches.
    cfg.MODEL.VIT.SCALES = [4.0, 2.0, 1.0, 0.5]
    cfg.MODEL.VIT.OUT_CHANNELS = 256


@BACKBONE_REGISTRY.register()
def build_vit_pyramid(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build the backbone that MODEL.VIT describes."""
    vit = cfg.MODEL.VIT
    net = ViT(
        img_size=vit.IMAGE_SIZE,
        patch_size=vit.PATCH_SIZE,
        in_chans=input_shape.channels,
        embed_dim=vit.EMBED_DIM,
        depth=vit.DEPTH,
        num_heads=vit.NUM_HEADS,
        drop_path_rate=vit.DROP_PATH_RATE,
        window_size=vit.WINDOW_SIZE,
        window_block_indexes=vit.WINDOW_BLOCKS,
        use_rel_pos=True,
    )
    return SimpleFeaturePyramid(
        net,
        in_feature="last_feat",
        out_channels=vit.OUT_CHANNELS,
        scale_factors=vit.SCALES,
        square_pad=vit.IMAGE_SIZE,
    )
