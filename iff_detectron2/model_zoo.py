"""The configs and trained models that come with the package, as `detectron2.model_zoo` has its own.

Every command and every MODEL.WEIGHTS takes the address of weights: `iff://MovingShapes/iff_net_C`.
"""

from __future__ import annotations

from detectron2.config import CfgNode
from torch import nn


def get_config_file(name: str) -> str:
    """Return the path of a config.

    Args:
        name: as `MovingShapes/iff_net_C`, with or without `.yaml`; a path or a name of Detectron2's
            model zoo will do, too.

    Raises:
        FileNotFoundError: if there is no such config.
    """
    from iff_detectron2.engine.config_file import find_config

    return str(find_config(name))


def get_config(name: str, trained: bool = False) -> CfgNode:
    """Return a config, frozen, with its datasets registered.

    Args:
        name: as for `get_config_file`; with `trained` a config of this package.
        trained: its MODEL.WEIGHTS are those of the zoo.

    Raises:
        FileNotFoundError: if there is no such config, or no weights of it.
    """
    from iff_detectron2.engine import load_config

    return load_config(name, ["MODEL.WEIGHTS", get_checkpoint_file(name)] if trained else [])


def get_checkpoint_file(name: str) -> str:
    """Return the path of the trained weights of a config of this package.

    Args:
        name: as `MovingShapes/iff_net_C`, with or without `.yaml`.

    Raises:
        FileNotFoundError: if the zoo has none of it.
    """
    from iff_detectron2.engine.zoo_weights import trained_weights

    return str(trained_weights(name))


def get(name: str) -> nn.Module:
    """Build a trained model, in evaluation mode, on the device that its config finds.

    Args:
        name: as for `get_checkpoint_file`.

    Raises:
        FileNotFoundError: if the zoo has no weights of it.
    """
    from iff_detectron2.engine.frame_detector import load_model

    return load_model(get_config(name, trained=True))
