"""Part b: lines of a training step that make the host wait for the GPU."""

import linecache
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.report import Report
from benchmarks.gpu.small_runs import ROOT, list_pairs, make_run, shorten_path, silence_process
from core.training import loader
from core.training.profiling import take_first_steps

# Where a wait for the device is meant: solvers on the host get K x K numbers.
STORED = ("erm", "erm_mt_l1", "ls", "fairgrad")  # methods that are also fed from a store
INTENDED_WAITS = ("core/weighting/solvers/", "core/weighting/methods/")


class WaitRecorder:
    """Records the lines at which the host waits for the device."""

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda
        self.places: Counter[str] = Counter()

    @contextmanager
    def record_waits(self) -> Iterator[None]:
        """Record the waits within this context."""
        before = warnings.showwarning
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mode warns once that it is a prototype
            if self.cuda:
                torch.cuda.set_sync_debug_mode("warn")
            warnings.simplefilter("always")
            warnings.showwarning = self._record_wait  # type: ignore[assignment]
            try:
                yield
            finally:
                if self.cuda:
                    torch.cuda.set_sync_debug_mode("default")
                warnings.showwarning = before

    def _record_wait(self, message: Any, *rest: Any) -> None:
        if "synchroniz" not in str(message):
            return
        stack = traceback.extract_stack()[:-1]
        own = [f for f in stack if str(ROOT) in f.filename and "/benchmarks/" not in f.filename]
        frames = own or stack
        last = frames[-1]
        caller = next((f for f in reversed(frames[:-1]) if f.filename != last.filename), last)
        line = (last.line or linecache.getline(last.filename, last.lineno or 0)).strip()
        self.places[
            f"{shorten_path(last.filename)}:{last.lineno} {last.name}: {line}"
            f"  <- {shorten_path(caller.filename)}:{caller.lineno} {caller.name}"
        ] += 1


def find_host_waits(report: Report) -> None:
    """Part b: which lines of a training step wait for the device."""
    silence_process()
    places: dict[str, Counter[str]] = defaultdict(Counter)
    who: dict[str, set[str]] = defaultdict(set)
    free: list[str] = []
    timed = 3
    pairs = list_pairs(report.quick)
    work = [(*pair, False) for pair in pairs]
    work += [(*pair, True) for pair in pairs if pair[0] in STORED or report.quick]
    for method, dataset, is_stored in work:
        name = f"{method}/{dataset}{' from a store' if is_stored else ''}"
        try:
            noted = _record_steps(method, dataset, report, timed, is_stored)
        except Exception as error:
            report.add_verdict(False, f"{name}: {type(error).__name__}: {str(error)[:200]}")
            continue
        if not noted:
            free.append(name)
        for place, count in noted.items():
            places[place][name] = count
            who[place].add(name)
    report.print_line(
        f"{len(free)} of {len(free) + len(set().union(*who.values()))} runs never wait"
    )
    bad = []
    for place in sorted(places, key=lambda p: -len(who[p])):
        meant = place.startswith(INTENDED_WAITS)
        counts = {name: round(count / timed, 1) for name, count in places[place].items()}
        report.print_line(f"  {'meant' if meant else 'WAITS'} {place}")
        listed = ", ".join(f"{n} {c:g}" for n, c in sorted(counts.items())[:80])
        report.print_line(f"        a step, in {len(counts)} runs: {listed}")
        report.add_figure(place, counts)
        if not meant:
            bad.append(place)
    for place in bad:
        report.add_verdict(False, f"waits, {len(who[place])} runs: {place}")
    if not bad:
        report.add_verdict(True, "no step waits but for a solver on the host")


def _record_steps(
    method: str, dataset: str, report: Report, timed: int, is_stored: bool
) -> Counter[str]:
    # With no share of the GPU's memory, the data stay on the host.
    with mock.patch.object(loader, "RESIDENT_SHARE", 0.0) if is_stored else nullcontext():
        run = make_run(method, dataset, report.device)
    recorder = WaitRecorder(report.is_cuda)
    for index, stage in enumerate(run.context.stages):
        if index:
            run.begin_stage(index)
        if stage.splits_validation:
            continue
        steps = take_first_steps(run, index, 2 + timed)
        next(steps)
        next(steps, None)
        with recorder.record_waits():
            for _ in steps:
                pass
    return recorder.places
