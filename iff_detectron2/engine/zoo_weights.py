"""The trained weights that come with the package, at addresses as `iff://MovingShapes/iff_net_C`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

from iff_detectron2_cli.arguments import did_you_mean

from .config_file import CONFIGS

PREFIX = "iff://"


def trained_weights(name: str) -> Path:
    """Return the file of weights of a config; it lies in `weights/` beside the config.

    Args:
        name: of the config, as `MovingShapes/iff_net_C`, with or without `.yaml`.

    Raises:
        FileNotFoundError: there are none; the names that have some are told.
    """
    files = sorted(CONFIGS.glob("*/weights/*.pth"))
    known = {f"{path.parts[-3]}/{path.stem}": path for path in files}
    found = known.get(name.removesuffix(".yaml"))
    if found is None:
        hint = did_you_mean(name, list(known))
        raise FileNotFoundError(
            f"the model zoo has no weights of {name}{hint}; it has those of {', '.join(known)}"
        )
    return found


class ZooHandler(PathHandler):
    """Lets Detectron2 find `iff://` addresses wherever it takes a path, as MODEL.WEIGHTS."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return str(trained_weights(path.removeprefix(PREFIX)))

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return Path(self._get_local_path(path)).is_file()

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return PathManager.open(self._get_local_path(path), mode, buffering, **kwargs)


PathManager.register_handler(ZooHandler(), allow_override=True)
