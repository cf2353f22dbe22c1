"""A resumed training goes on exactly as it would have without the interruption."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from iff_detectron2.data.training_stream import STEPS, TrainingStream
from iff_detectron2.utils.seeding import seed_generators

# Values of each metric that are kept for the medians of the writers, which look at 20.
_KEPT_VALUES = 100


class ExactResume(HookBase):
    """Keeps what Detectron2's checkpoints lack: random numbers, place in the data, open metrics.

    All random numbers of a step, in the model and in the data, come from generators that are
    seeded by the seed of the run and the number of the step, so that the seed is all there is to
    keep. Must be the first hook of a trainer.
    """

    def __init__(self, seed: int, stream: Any, metrics_file: Path) -> None:
        """
        Args:
            seed: seed of the run, negative for a random one.
            stream: training data; what is no `TrainingStream` begins anew.
            metrics_file: `metrics.json` of the run.
        """
        self._seed = seed
        self._stream = stream
        self._metrics_file = metrics_file
        self._events: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        storage = self.trainer.storage
        hints = storage.smoothing_hints()
        histories = {
            name: [(float(v), int(i)) for v, i in history.values()[-_KEPT_VALUES:]]
            for name, history in storage.histories().items()
        }
        events = {name: (hints[name], values) for name, values in histories.items()}
        return {"seed": self._seed, "events": events}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seed = state["seed"]
        self._events = state["events"]

    def before_train(self) -> None:
        if self._seed < 0:
            self._seed = comm.shared_random_seed()
        logger = logging.getLogger(__name__)
        logger.info("seed of this run: %d", self._seed)
        start = self.trainer.start_iter
        if isinstance(self._stream, TrainingStream):
            self._stream.begin(self._seed, start)
        elif start:
            logger.warning("the training data is no TrainingStream; its order begins anew")

    def restore_metrics(self) -> bool:
        """Bring back the metrics that were not yet written where the run goes on.

        Returns:
            Whether something is left to do of the step before: its checkpoint is written before
            the evaluation and the metrics of that step.
        """
        last = self.trainer.start_iter - 1
        written = -1
        if comm.is_main_process() and self._metrics_file.is_file():
            written = _cut_metrics(self._metrics_file, last)
        written = comm.all_gather(written)[0]
        storage = self.trainer.storage
        for name, (hint, values) in self._events.items():
            for value, iteration in values:
                storage.put_scalar(name, value, smoothing_hint=hint, cur_iter=iteration)
        self._events = {}
        # What the writers have not seen yet is what is newer than the last line.
        latest = storage.latest()
        for name in [n for n, (_, iteration) in latest.items() if iteration <= written]:
            del latest[name]
        return written < last

    def before_step(self) -> None:
        seed_generators(self._seed, STEPS, comm.get_rank(), self.trainer.iter)

    def after_train(self) -> None:
        bad = getattr(self._stream, "bad_files", {})
        if bad:
            logging.getLogger(__name__).warning(
                "%d files could not be read; other samples took their place, see above", len(bad)
            )


def _cut_metrics(path: Path, last: int) -> int:
    """Take out lines of steps behind `last`, which will be done again, and lines that are torn.

    Returns:
        The step of the last line that stays; -1 if none does.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    steps = [(line, _step(line)) for line in lines]
    stay = [(line, step) for line, step in steps if step is not None and step <= last]
    if len(stay) < len(lines):
        # In place, since Detectron2's writer has the file open.
        with path.open("r+", encoding="utf-8") as stream:
            stream.writelines(line for line, _ in stay)
            stream.truncate()
    return max((step for _, step in stay), default=-1)


def _step(line: str) -> int | None:
    """Step of a line of metrics; None if it is torn."""
    try:
        step = json.loads(line)["iteration"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return step if line.endswith("\n") and isinstance(step, int) else None
