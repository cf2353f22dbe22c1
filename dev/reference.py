"""Makes the reference pages of the site from the code: config keys, commands, Python API.

The pages are made anew by each build, so that they cannot be out of date; `docs/conf.py` calls
`write_pages`.
"""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).parents[1] / "iff_detectron2" / "config.py"
# Rooms with a public surface of their own, and modules of rooms that have none.
API = {
    "layers": ("iff_detectron2.layers",),
    "structures": ("iff_detectron2.structures",),
    "modeling": ("iff_detectron2.modeling",),
    "video": (
        *("iff_detectron2.video.reader", "iff_detectron2.video.frames"),
        *("iff_detectron2.video.sources", "iff_detectron2.video.writer"),
    ),
    "predictions": ("iff_detectron2.predictions",),
    "data": ("iff_detectron2.data",),
    "postprocessing": ("iff_detectron2.postprocessing",),
    "evaluation": ("iff_detectron2.evaluation", "iff_detectron2.evaluation.report"),
    "doctor": ("iff_detectron2.doctor",),
    "engine": (
        *("iff_detectron2.engine", "iff_detectron2.engine.window_alignment"),
        "iff_detectron2.model_zoo",
    ),
    "inference": ("iff_detectron2.inference.run",),
    "export": ("iff_detectron2.export",),
    "deploy": ("iff_detectron2.deploy",),
    "visualization": (
        *("iff_detectron2.visualization.drawing", "iff_detectron2.visualization.flow_colors"),
        *("iff_detectron2.visualization.panel", "iff_detectron2.visualization.plots"),
    ),
}


@dataclass
class Entry:
    """Keys of the config that one comment speaks of.

    Attributes:
        section: head of the part of the file.
        text: the comment.
        keys: full names; one that ends with a point is a group of keys.
    """

    section: str
    text: str
    keys: list[str] = field(default_factory=list)


def config_entries(source: str) -> list[Entry]:
    """Return the entries of `add_iff_config` in the order of the file.

    Raises:
        ValueError: a key has no comment.
    """
    entries: list[Entry] = []
    section, comment, fresh = "Weights", [], False
    for number, raw in enumerate(source.splitlines(), 1):
        line = raw.strip()
        key = re.match(r"cfg\.([A-Z_.0-9]+) = ", line)
        head = re.match(r"# --- (.*?) -+$", line)
        if head:
            section, comment = head[1], []
        elif line.startswith("# "):
            comment = [*(comment if fresh else []), line[2:]]
            fresh = True
            continue
        elif key:
            name = key[1] + ("." if line.endswith("= CN()") else "")
            if fresh:
                entries.append(Entry(section, " ".join(comment), [name]))
            elif not comment and name.endswith("."):
                pass  # a group that its keys explain
            elif not comment:
                raise ValueError(f"line {number}: {name} has no comment")
            else:
                entries[-1].keys.append(name)
        elif not line:
            comment = []
        fresh = False
    return entries


def _value(cfg: Any, key: str) -> str:
    for part in key.split("."):
        cfg = cfg[part]
    return '`""`' if cfg == "" else f"`{cfg}`"


def config_page() -> str:
    """Return the page of the config's keys, Markdown."""
    from detectron2.config import get_cfg

    from iff_detectron2 import add_iff_config

    cfg = get_cfg()
    add_iff_config(cfg)
    lines = [
        "# Config keys",
        "",
        "The keys that `add_iff_config` adds to Detectron2's; made from its comments.",
    ]
    section = ""
    for entry in config_entries(CONFIG.read_text(encoding="utf-8")):
        if entry.section != section:
            section = entry.section
            lines += ["", f"## {section}", "", "| key | default | |", "|---|---|---|"]
        keys = [key for key in entry.keys if not key.endswith(".")]
        names = "<br>".join(f"`{key}`" for key in keys or entry.keys)
        defaults = "<br>".join(_value(cfg, key) for key in keys)
        text = re.sub(r"([|*_\\<])", r"\\\1", entry.text)
        lines.append(f"| {names} | {defaults} | {text} |")
    return "\n".join(lines) + "\n"


def command_page() -> str:
    """Return the page of the verbs with the help of each, Markdown."""
    from iff_detectron2_cli.arguments import Help, Parser
    from iff_detectron2_cli.main import VERBS

    os.environ["COLUMNS"] = "96"  # what argparse goes by
    lines = ["# Commands", "", "`iff-detectron2 VERB --help`, for each verb.", ""]
    for verb in VERBS:
        module = importlib.import_module(f"iff_detectron2_cli.{verb}")
        parser = Parser(prog=f"iff-detectron2 {verb}", formatter_class=Help)
        module.add_arguments(parser)
        head = f"{module.HELP[0].upper()}{module.HELP[1:]}."
        example = ["```bash", module.EXAMPLE, "```"]
        lines += [f"## {verb}", "", head, "", *example, ""]
        lines += ["```text", parser.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def api_pages() -> dict[str, str]:
    """Return the pages of the Python API by name, Markdown, the first of them their list."""
    pages = {}
    rooms = "\n".join(f"api_{room}" for room in API)
    pages["api"] = (
        "# Python API\n\nBy room, made from the docstrings. Shapes are in square brackets: T "
        "reference frames, C channels, H and W cells of a map or pixels of a frame.\n\n"
        f"```{{toctree}}\n{rooms}\n```\n"
    )
    for room, modules in API.items():
        body = [f"# {room}", ""]
        for module in modules:
            if len(modules) > 1:
                body += [f"## {module.rpartition('.')[2]}", ""]
            found = importlib.import_module(module)
            options = [":members:"]
            if hasattr(found, "__all__"):
                options.append(":imported-members:")
                # What is at home in another room stands there.
                home = module.split(".")[:2]
                guests = [
                    name
                    for name in found.__all__
                    if getattr(getattr(found, name), "__module__", module).split(".")[:2] != home
                ]
                if guests:
                    options.append(f":exclude-members: {', '.join(guests)}")
            directive = [f".. automodule:: {module}", *(f"   {option}" for option in options)]
            body += ["```{eval-rst}", *directive, "```", ""]
        pages[f"api_{room}"] = "\n".join(body)
    return pages


def write_pages(folder: Path) -> None:
    """Write all reference pages; those that are as they should be are left alone."""
    folder.mkdir(exist_ok=True)
    pages = {"config": config_page(), "commands": command_page(), **api_pages()}
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
