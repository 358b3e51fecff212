"""TensorBoard event files: a run per training run, hyperparameters in the tab of that name.

The files are written whole, from records, by the parts of tensorboardX that write into one file:
its ``SummaryWriter`` would leave a thread and an exit handler for each of thousands of runs.
"""

import re
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from common.files import TEMPORARY_PREFIX
from tuning.loggers.base import LoggedRun, RunLogger

Value = TypeVar("Value")

FOLDER = "tensorboard"
SIGNS = str.maketrans({"<": " lt ", ">": " gt ", "≤": " le ", "≥": " ge ", "&": " and "})
UNSAFE = re.compile(r"[^-\w.]+")  # a slash would make a group of its own
# Names become tags in these groups, by their start.
GROUPS = ("selected", "best", "train_batches", "train", "validation", "test", "loss", "weight",
          "gradient_norm")  # fmt: skip


class TensorBoardLogger(RunLogger):
    """Writes ``<results>/<data set>/<method>/tensorboard/<trial>/<seed>``.

    Args:
        results: The results folder.
    """

    def __init__(self, results: Path) -> None:
        self.results = results

    def log_run(self, run: LoggedRun) -> None:
        """Write the event file of a run; one of fewer epochs, or of an earlier winner, goes."""
        folder = self.results / run.context.dataset / run.context.method / FOLDER / _name_run(run)
        target = folder / f"events.out.tfevents.{len(run.epochs)}.{run.digest}"
        if target.is_file():
            return
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder) as temporary:
            _write_events(run, Path(temporary))
            (written,) = Path(temporary).iterdir()
            for earlier in folder.glob("events.out.tfevents.*"):
                earlier.unlink()
            written.rename(target)


def _name_run(run: LoggedRun) -> str:
    if run.is_confirmation:
        return f"confirmation/seed_{run.description.number}"
    return f"trial_{run.description.number}/seed_{run.seed}"


def _write_events(run: LoggedRun, folder: Path) -> None:
    writer = EventsWriter(str(folder / "events"))
    try:
        begin = time.time() - (run.epochs[-1].seconds if run.epochs else 0.0)
        results = _tag_values(run.results)
        values = _tag_values(run.hyperparameters)
        values |= {name: run.tags[name] for name in ("method", "phase", "status")}
        for summary in hparams(values, results):
            writer.write_event(Event(wall_time=begin, summary=summary))
        for epoch in run.epochs:
            tagged = _tag_values(epoch.metrics)
            _write_scalars(writer, tagged, epoch.number, begin + epoch.seconds)
        last = run.epochs[-1].number if run.epochs else 0
        _write_scalars(writer, results, last, begin)
    finally:
        writer.close()


def _tag_values(values: Mapping[str, Value]) -> dict[str, Value]:
    return {tag: values[name] for name, tag in make_tags(values).items()}


def _write_scalars(writer: EventsWriter, tagged: dict[str, float], step: int, when: float) -> None:
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in tagged.items()]
    writer.write_event(Event(wall_time=when, step=step, summary=Summary(value=values)))


def make_tags(names: Iterable[str]) -> dict[str, str]:
    """Return the tag of each name: its group, a slash, and letters, digits, ``_``, ``-``, ``.``.

    Names of groups may hold any characters; where two would share a tag, the later gets a number.
    """
    tags: dict[str, str] = {}
    for name in names:
        group = next((start for start in GROUPS if name.startswith(f"{start}_")), "")
        safe = UNSAFE.sub("_", name.removeprefix(f"{group}_").translate(SIGNS)).strip("_")
        tag = unique = f"{group}/{safe}" if group else safe
        count = 1
        while unique in tags.values():
            count += 1
            unique = f"{tag}_{count}"
        tags[name] = unique
    return tags
