"""A dataset that is named on the command line."""

from __future__ import annotations

from collections.abc import Sequence


def dataset_name(text: str, imports: Sequence[str] = ()) -> str:
    """Return the name of a registered dataset.

    Args:
        text: the name; or NAME=FORMAT:PATH[@PART], which is registered first.
        imports: what --import names; such modules may register datasets.

    Raises:
        ImportError: there is no such module.
        ValueError: a malformed text, a name that stands for something else already, or for nothing.
    """
    from iff_detectron2.data import register_from_specs
    from iff_detectron2.data.catalog import check_registered
    from iff_detectron2.engine.config_file import import_project

    import_project(imports)
    name, is_spec, _ = text.partition("=")
    if is_spec:
        register_from_specs([text])
    check_registered(name)
    return name
