"""Whether the names in a config stand for something, before anything is built."""

from __future__ import annotations

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import (
    ANCHOR_GENERATOR_REGISTRY,
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    RPN_HEAD_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
)
from detectron2.utils.file_io import PathManager
from fvcore.common.registry import Registry

from iff_detectron2.config import add_iff_config
from iff_detectron2.data.catalog import check_registered
from iff_detectron2.modeling import (
    AGGREGATOR_REGISTRY,
    ALIGNMENT_LOSS_REGISTRY,
    FLOW_ESTIMATOR_REGISTRY,
)
from iff_detectron2.modeling.adaptation import ADAPTATION_LOSS_REGISTRY
from iff_detectron2_cli.arguments import did_you_mean

from .config_file import value_of

_REGISTRIES: dict[str, Registry] = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.PROPOSAL_GENERATOR.NAME": PROPOSAL_GENERATOR_REGISTRY,
    "MODEL.RPN.HEAD_NAME": RPN_HEAD_REGISTRY,
    "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
    "MODEL.ROI_BOX_HEAD.NAME": ROI_BOX_HEAD_REGISTRY,
    "MODEL.ROI_MASK_HEAD.NAME": ROI_MASK_HEAD_REGISTRY,
    "MODEL.ROI_KEYPOINT_HEAD.NAME": ROI_KEYPOINT_HEAD_REGISTRY,
    "MODEL.SEM_SEG_HEAD.NAME": SEM_SEG_HEADS_REGISTRY,
    "MODEL.IFF.AGGREGATOR": AGGREGATOR_REGISTRY,
    "MODEL.IFF.FLOW.NAME": FLOW_ESTIMATOR_REGISTRY,
    "MODEL.IFF.TRL.NAME": ALIGNMENT_LOSS_REGISTRY,
    "MODEL.IFF.ADAPT.LOSSES": ADAPTATION_LOSS_REGISTRY,
}


def check_names(cfg: CfgNode) -> None:
    """Look whether the classes that a config chooses are registered.

    Names that are Detectron2's defaults may belong to a part that the model does not have, and
    pass.

    Raises:
        ValueError: if one is not.
    """
    defaults = get_cfg()
    add_iff_config(defaults)
    for key, registry in _REGISTRIES.items():
        value = value_of(cfg, key)
        if value == value_of(defaults, key):
            continue
        for name in value if isinstance(value, list) else [value]:
            if name in registry or name == "PrecomputedProposals":
                continue
            hint = did_you_mean(str(name), [known for known, _ in registry])
            raise ValueError(
                f"{key} is {name!r}, which is not registered"
                + (hint or "; is the module that registers it imported (--import)?")
            )


def check_datasets(cfg: CfgNode, *, training: bool) -> None:
    """Look whether the datasets of a config are registered.

    Raises:
        ValueError: if one is not, or if there is none to train on.
    """
    if training and not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: there is nothing to train on")
    if not training and not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST is empty: there is nothing to evaluate")
    for part in ("TRAIN", "TEST") if training else ("TEST",):
        names = cfg.DATASETS[part]
        if isinstance(names, str):
            raise ValueError(f"DATASETS.{part} is the text {names!r}; write ['{names}',]")
        for name in names:
            check_registered(name, f"DATASETS.{part}: ")


def fetch_weights(cfg: CfgNode) -> None:
    """Look whether MODEL.WEIGHTS is on this machine; download it where it is an address.

    Raises:
        FileNotFoundError: a file is not there, or weights are not in the model zoo.
        OSError: an address cannot be reached.
    """
    weights = cfg.MODEL.WEIGHTS
    try:
        there = not weights or PathManager.isfile(PathManager.get_local_path(weights))
    except FileNotFoundError:
        raise  # of the model zoo; says what there is
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise OSError(
            f"cannot download {weights} ({reason}); bring the file here in another way and name it "
            "as MODEL.WEIGHTS (--weights)"
        ) from None
    if not there:
        raise FileNotFoundError(f"the checkpoint {weights} does not exist; check MODEL.WEIGHTS")
