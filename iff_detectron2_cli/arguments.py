"""Arguments of a command, whose mistakes are told in one sentence. Standard library only."""

from __future__ import annotations

import argparse
import difflib
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the name that is most like a word, or nothing."""
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[close[0]]}?" if close else ""


class Help(argparse.HelpFormatter):
    """Help whose example stays in one line, to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example: ") else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, and that reads options behind overrides, too.

    Config overrides are a positional argument `opts` of REMAINDER, as Detectron2 has it: KEY VALUE
    pairs, or KEY=VALUE for a LazyConfig.
    """

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            option = next((word for word in unknown if word.startswith("-")), unknown[0])
            hint = did_you_mean(option.partition("=")[0], self._option_string_actions)
            self.error(f"{option} is not known here{hint}")
        return parsed

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        words = list(sys.argv[1:] if args is None else args)
        overrides: list[str] = []
        while True:
            parsed, unknown = super().parse_known_args(words, namespace)
            rest = getattr(parsed, "opts", None)
            if unknown or not rest:
                break
            end = self._end_of_overrides(rest)
            overrides += rest[:end]
            if end == len(rest):
                break
            if end == 0:
                self.error(f"write {rest[0]} before the words that are no option")
            words = [*words[: len(words) - len(rest)], *rest[end:]]
        if hasattr(parsed, "opts"):
            parsed.opts = overrides
        return parsed, unknown

    def _end_of_overrides(self, words: Sequence[str]) -> int:
        """Return where overrides end: at an option in the place of a key, or behind the last."""
        position = 0
        while position < len(words) and not words[position].startswith("-"):
            if "=" in words[position]:
                position += 1
                continue
            if position + 1 == len(words) or words[position + 1].startswith("--"):
                self.error(f"the override {words[position]} has no value: write KEY VALUE")
            position += 2
        return position


def run_told(prog: str, run: Callable[[], Any]) -> int:
    """Run a command; what its user did wrong ends with one sentence.

    Returns:
        What the command returns, 0 if that is no number; 2 after a mistake.
    """
    # Of Detectron2's own code; there is nothing that its user could do.
    warnings.filterwarnings("ignore", message=r"torch\.meshgrid: in an upcoming release")
    try:
        code = run()
    except (ValueError, OSError, ImportError) as error:
        print(f"{prog}: {' '.join(str(_cause(error)).split())}", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0


def _cause(error: Exception) -> Exception:
    """How to install Detectron2, where a module of it is what could not be imported."""
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "detectron2":
        try:
            from iff_detectron2.utils import needs_detectron2  # noqa: F401
        except ImportError as how:
            return how
    return error
