"""What is found in a dataset, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

CLEAN, FINDINGS, UNREADABLE = 0, 1, 2  # exit codes
_EXAMPLES = 3

Level = Literal["problem", "note"]


@dataclass(frozen=True)
class Finding:
    """One kind of thing that is wrong or worth knowing.

    Attributes:
        level: "problem" (training or evaluation goes wrong) or "note" (may be as it should be).
        check: short name of the check, for scripts.
        text: a sentence without its final stop.
        count: how often it was found.
        examples: the first few places.
    """

    level: Level
    check: str
    text: str
    count: int = 1
    examples: tuple[str, ...] = ()


def finding(level: Level, check: str, text: str, places: Sequence[object]) -> list[Finding]:
    """Return a list with one finding, or none if there is no place.

    Args:
        level: how bad it is.
        check: name of the check.
        text: what was found, for people.
        places: where; the first few are shown.
    """
    if not places:
        return []
    examples = tuple(str(place) for place in places[:_EXAMPLES])
    return [Finding(level, check, text, len(places), examples)]


@dataclass
class Report:
    """All that was found in a dataset.

    Attributes:
        dataset: its name.
        unreadable: why it cannot be read; empty if it can.
        summary: what it counts.
        findings: problems and notes in the order of the checks.
    """

    dataset: str
    unreadable: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def exit_code(self, strict: bool = False) -> int:
        """0 clean, 1 findings, 2 cannot be read; notes count only if `strict`."""
        if self.unreadable:
            return UNREADABLE
        counted = [f for f in self.findings if strict or f.level == "problem"]
        return FINDINGS if counted else CLEAN

    def to_json(self, strict: bool = False) -> dict[str, Any]:
        """Return the report as plain values."""
        return {"exit_code": self.exit_code(strict), **asdict(self)}


def format_report(report: Report) -> str:
    """Return the report as one page of text."""
    lines = [f"Dataset {report.dataset}"]
    if report.unreadable:
        lines.append(f"cannot be read: {report.unreadable}")
    for key, value in report.summary.items():
        lines.append(f"  {key.replace('_', ' '):<22} {_words(value)}")
    for level, title in (("problem", "Problems"), ("note", "Notes")):
        found = [f for f in report.findings if f.level == level]
        if found:
            lines.append(f"{title}:")
        for item in found:
            lines.append(f"  [{item.check}] {item.text}" + (f" ({item.count})" * (item.count > 1)))
            lines += [f"      {example}" for example in item.examples]
            if item.examples and item.count > len(item.examples):
                lines.append(f"      and {item.count - len(item.examples)} more")
    if not report.unreadable and not any(f.level == "problem" for f in report.findings):
        lines.append("No problem found.")
    return "\n".join(lines)


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(part)}" for key, part in value.items()) or "none"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
