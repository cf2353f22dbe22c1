"""The configs that come with the package, by name, as `detectron2.model_zoo` has its own."""

from __future__ import annotations

from detectron2.config import CfgNode


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


def get_config(name: str) -> CfgNode:
    """Return a config, frozen, with its datasets registered.

    Raises:
        FileNotFoundError: if there is no such config.
    """
    from iff_detectron2.engine import load_config

    return load_config(name)
