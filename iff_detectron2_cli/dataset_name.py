"""A dataset that is named on the command line."""

from __future__ import annotations


def dataset_name(text: str) -> str:
    """Name of a registered dataset; NAME=FORMAT:PATH[@PART] is registered first.

    Raises:
        ValueError: a malformed text, or a name that stands for something else already.
    """
    from iff_detectron2.data import register_from_specs

    name, is_spec, _ = text.partition("=")
    if is_spec:
        register_from_specs([text])
    return name
