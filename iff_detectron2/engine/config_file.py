"""Which file a config's name means, and reading it so that what is wrong is one sentence."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from fvcore.common.config import BASE_KEY

from iff_detectron2.utils.plain_yaml import load_plain_yaml
from iff_detectron2_cli.arguments import did_you_mean

# In a wheel the configs lie in the package, in a checkout beside it.
_PACKAGE = Path(__file__).resolve().parents[1]
CONFIGS = next(f for f in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if f.is_dir())


def zoo_folder() -> Path:
    """Return the folder of the configs that come with Detectron2."""
    spec = importlib.util.find_spec("detectron2.model_zoo")
    if spec is None or spec.origin is None:
        raise ImportError("this detectron2 has no model_zoo; install a whole one")
    return Path(spec.origin).parent / "configs"


def find_config(name: str) -> Path:
    """Return the file that a name means.

    Args:
        name: a path; else a config of this package, as `MovingShapes/iff_net_C`; else one of
            Detectron2's model zoo, as `COCO-Detection/retinanet_R_50_FPN_1x.yaml`.

    Raises:
        FileNotFoundError: if it is none of them.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    folders = (CONFIGS, zoo_folder())
    if not path.is_absolute() and ".." not in path.parts:
        for folder in folders:
            for candidate in (folder / path, folder / f"{name}.yaml"):
                if candidate.is_file():
                    return candidate
    if path.is_dir():
        raise FileNotFoundError(f"the config {name} is a folder; name a file in it")
    kind = ".py" if path.suffix == ".py" else ".yaml"
    known = [
        found.relative_to(folder).as_posix()
        for folder in folders
        for found in folder.rglob(f"*{kind}")
        if not found.name.startswith(("Base", "_"))
    ]
    bare = [found.removesuffix(kind) for found in known]
    hint = did_you_mean(name, known if path.suffix == kind else bare)
    raise FileNotFoundError(
        f"the config {name} does not exist, neither as a file nor as a config of this package or "
        f"of Detectron2's model zoo{hint}"
    )


def is_of_zoo(path: Path) -> bool:
    """Whether a config came with Detectron2. Such may run code, as the rest of Detectron2 does."""
    return path.resolve().is_relative_to(zoo_folder().resolve())


def zoo_weights(path: Path) -> str | None:
    """Return the address of the zoo's weights of a config, None if there are none."""
    if not is_of_zoo(path):
        return None
    # Importing that module needs setuptools, which newer environments are without; so it is read.
    tree = ast.parse((zoo_folder().parent / "model_zoo.py").read_text(encoding="utf-8"))
    assigned = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    prefix = ast.literal_eval(assigned["S3_PREFIX"])
    suffixes = ast.literal_eval(assigned["CONFIG_PATH_TO_URL_SUFFIX"])
    name = path.resolve().relative_to(zoo_folder().resolve()).with_suffix("").as_posix()
    return f"{prefix}{name}/{suffixes[name]}" if name in suffixes else None


def config_chain(path: Path, above: tuple[Path, ...] = ()) -> Iterator[dict[str, Any]]:
    """Yield what a YAML config says, and then what each of its `_BASE_` says.

    Raises:
        FileNotFoundError: a base does not exist.
        ValueError: a file is no YAML mapping, wants to run code, or is its own base.
    """
    if path.resolve() in above:
        raise ValueError(f"the config {path} is its own {BASE_KEY}")
    try:
        load = yaml.unsafe_load if is_of_zoo((*above, path)[0]) else load_plain_yaml
        said = load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{BASE_KEY} of {above[-1]} is {path}, which is no file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"the config {path} is no text in UTF-8: {error.reason}") from None
    except yaml.constructor.ConstructorError as error:
        raise ValueError(
            f"the config {path}: {error.problem}{_place(error)}; such a tag could run code, so "
            "write the value itself"
        ) from None
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"the config {path} is no YAML: {error.problem}{_place(error)}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"the config {path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(said, dict):
        raise ValueError(f"the config {path} holds no keys; write KEY: VALUE in its lines")
    yield said
    bases = said.get(BASE_KEY, [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not re.match(r"\w+://", str(base)):
            yield from config_chain(
                path.parent / Path(str(base)).expanduser(), (*above, path.resolve())
            )


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    return "" if mark is None else f" in line {mark.line + 1}"


def keys_of(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    """Yield all keys of a config, sections too, as `MODEL.WEIGHTS`."""
    for key, value in cfg.items():
        yield prefix + key
        if isinstance(value, CfgNode):
            yield from keys_of(value, f"{prefix}{key}.")


def value_of(cfg: CfgNode, key: str) -> Any:
    """Return the value of a dotted key."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def merge(cfg: CfgNode, change: Callable[[CfgNode], None], where: str = "") -> None:
    """Merge something into a config, and say in one sentence what does not fit.

    Args:
        cfg: changed in place.
        change: merges it.
        where: beginning of the sentence.

    Raises:
        ValueError: a key does not exist, or a value is of another kind than the key's.
    """
    known = list(keys_of(cfg))
    try:
        change(cfg)
    except (KeyError, AssertionError, ValueError, TypeError, AttributeError) as error:
        text = str(error.args[0]) if error.args else str(error)
        if match := re.match(r"Non-existent (?:config )?key: (\S+)", text):
            hint = did_you_mean(match[1], known)
            hint = hint or "; a project's own keys come with --import MODULE:add_config"
            raise ValueError(f"{where}there is no key {match[1]}{hint}") from None
        if match := re.fullmatch(r"(?s).* vs\. (.*)\) for config key: (\S+)", text):
            there = value_of(cfg, match[2])
            kind = "text" if there == "" else f"like {there!r}"
            kind = "a section of keys" if isinstance(there, CfgNode) else kind
            raise ValueError(f"{where}{match[2]} must be {kind}, got {match[1]}") from None
        raise ValueError(f"{where}{' '.join(text.split())}") from None


def merge_overrides(cfg: CfgNode, opts: Sequence[Any]) -> None:
    """Apply `KEY VALUE` overrides.

    Raises:
        ValueError: a value is missing, a key does not exist or a value does not fit.
    """
    for position in range(0, len(opts), 2):
        pair = list(opts[position : position + 2])
        if "=" in str(pair[0]):
            raise ValueError(f"the override {pair[0]} has an equals sign; write KEY VALUE")
        if len(pair) == 1:
            raise ValueError(f"the override {pair[0]} has no value; write KEY VALUE")
        merge(cfg, partial(CfgNode.merge_from_list, cfg_list=pair))


def settle_device(name: str, asked: bool, key: str = "MODEL.DEVICE") -> str:
    """Return the device to use: the CPU in place of a GPU that is not there, unless asked for.

    Args:
        name: as MODEL.DEVICE has it.
        asked: whether the user named it.
        key: the key that named it, for errors.

    Raises:
        ValueError: if there is no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{key} is {name!r}; choose cpu, cuda or cuda:NUMBER") from None
    if device.type != "cuda":
        return name
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) < there:
        return name
    if there or asked:
        raise ValueError(
            f"{key} is {name}, but torch sees {there or 'no'} GPU(s) (`iff-detectron2 env` "
            "says more); set it to cpu to go without"
        )
    return "cpu"


def import_project(specs: Sequence[str]) -> Callable[[CfgNode], None]:
    """Import modules of somebody else's project and return what adds its keys to a config.

    Args:
        specs: MODULE or MODULE:FUNCTION, found from the working directory or installed. Importing
            registers the project's classes and datasets; the function adds its keys, in place.

    Raises:
        ImportError: there is no such module or function.
    """
    if specs and "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    functions: list[Callable[[CfgNode], None]] = []
    for spec in specs:
        name, _, function = spec.partition(":")
        module = importlib.import_module(name)
        if function:
            if not callable(getattr(module, function, None)):
                hint = did_you_mean(function, dir(module))
                raise ImportError(f"--import {spec}: {name} has no function {function}{hint}")
            functions.append(getattr(module, function))

    def add_config(cfg: CfgNode) -> None:
        for function in functions:
            function(cfg)

    return add_config
