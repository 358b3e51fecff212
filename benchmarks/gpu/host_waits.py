"""Part b: lines of a training step that make the host wait for the GPU.

Without a GPU, data and model are tensors without data (``meta``): a step that reads a number of
theirs fails at the line that would wait.
"""

import linecache
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu import small_runs
from benchmarks.gpu.report import Report
from benchmarks.gpu.small_runs import ROOT, list_pairs, make_run, shorten_path, silence_process
from core.environment import Environment
from core.training import loader
from core.training.profiling import take_first_steps
from core.training.run import Run
from core.weighting import GramWeighting

STORED = ("erm", "erm_mt_l1", "ls", "fairgrad")  # methods that are also fed from a store
TIMED_STEPS = 3  # of each run, after two that capture
# The functions in which a wait for the device is meant: they solve for weights on the host, from
# K x K numbers.
INTENDED_WAITS = {
    "core/weighting/solvers/alpha_fair.py": ("solve_alpha_fair",),
    "core/weighting/solvers/gram.py": ("gram_to_array", "weights_to_tensor"),
    "core/weighting/methods/imtl.py": ("solve_weights",),
    "core/weighting/methods/aligned_mtl.py": ("solve_weights",),
}


class WaitRecorder:
    """Records the lines at which the host waits for the device."""

    def __init__(self) -> None:
        self.places: Counter[str] = Counter()

    @contextmanager
    def record_waits(self) -> Iterator[None]:
        """Record the waits within this context."""
        before = warnings.showwarning
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mode warns once that it is a prototype
            torch.cuda.set_sync_debug_mode("warn")
            warnings.simplefilter("always")
            warnings.showwarning = self._record_wait  # type: ignore[assignment]
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode("default")
                warnings.showwarning = before

    def _record_wait(self, message: Any, *rest: Any) -> None:
        if "synchroniz" not in str(message):
            return
        self.places[_describe_place(traceback.extract_stack()[:-1])] += 1


def _describe_place(stack: list[traceback.FrameSummary]) -> str:
    """Return the last line of a stack that is the project's, and its caller in another file."""
    own = [f for f in stack if str(ROOT) in f.filename and not _is_foreign(f.filename)]
    frames = own or stack
    last = frames[-1]
    caller = next((f for f in reversed(frames[:-1]) if f.filename != last.filename), last)
    line = (last.line or linecache.getline(last.filename, last.lineno or 0)).strip()
    return (
        f"{shorten_path(last.filename)}:{last.lineno} {last.name}: {line}"
        f"  <- {shorten_path(caller.filename)}:{caller.lineno} {caller.name}"
    )


def is_intended(place: str) -> bool:
    """Return whether a wait at ``FILE:LINE FUNCTION: ...`` is meant."""
    file, _, rest = place.partition(":")
    return rest.split()[1].rstrip(":") in INTENDED_WAITS.get(file, ())


def _is_foreign(file: str) -> bool:
    return "/benchmarks/" in file or "/site-packages/" in file


def find_host_waits(report: Report) -> None:
    """Part b: which lines of a training step wait for the device."""
    silence_process()
    places: dict[str, Counter[str]] = defaultdict(Counter)
    who: dict[str, set[str]] = defaultdict(set)
    free: list[str] = []
    pairs = list_pairs(report.quick)
    work = [(*pair, False) for pair in pairs]
    work += [(*pair, True) for pair in pairs if pair[0] in STORED or report.quick]
    for method, dataset, is_stored in work:
        name = f"{method}/{dataset}{' from a store' if is_stored else ''}"
        try:
            record = _record_waits if report.is_cuda else _find_reads
            noted = record(method, dataset, is_stored)
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
        meant = is_intended(place)
        counts = {name: round(count / TIMED_STEPS, 1) for name, count in places[place].items()}
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


def _record_waits(method: str, dataset: str, is_stored: bool) -> Counter[str]:
    """Return the lines of a run's steps at which the host waits, and how often it does."""
    # With no share of the GPU's memory, the data stay on the host.
    with mock.patch.object(loader, "RESIDENT_SHARE", 0.0) if is_stored else nullcontext():
        run = make_run(method, dataset, "cuda")
    recorder = WaitRecorder()
    for steps in _begin_stages(run, 2 + TIMED_STEPS):
        next(steps)
        next(steps, None)
        with recorder.record_waits():
            for _ in steps:
                pass
    return recorder.places


def _begin_stages(run: Run, count: int) -> Iterator[Iterator[object]]:
    """Yield the first steps of each stage that takes steps."""
    for index, stage in enumerate(run.context.stages):
        if index:
            run.begin_stage(index)
        if not stage.splits_validation:
            yield take_first_steps(run, index, count)


def _find_reads(method: str, dataset: str, is_stored: bool) -> Counter[str]:
    """Return the first line of a run's steps that needs numbers of tensors without data.

    Weights of Gram matrices are not solved, because solvers read them. Photographs come from the
    host, because those on a device are checked when they are copied there.
    """
    environment = Environment("meta", "meta", "float32", 1, deterministic=False)
    fits = not is_stored and dataset != "made_images"
    with ExitStack() as stack:
        for owner, name, value in (
            (loader, "_fits_on_device", fits),
            (small_runs, "detect_environment", environment),
            (torch, "autocast", nullcontext()),  # there is none for this device
        ):
            stack.enter_context(mock.patch.object(owner, name, return_value=value))
        run = make_run(method, dataset, "meta")
        try:
            for steps in _begin_stages(run, 2):
                weighting = run.stage_state.weighting
                unsolved = (
                    weighting.replace_solver(lambda gram: torch.empty_like(gram[0]))
                    if isinstance(weighting, GramWeighting)
                    else nullcontext()
                )
                with unsolved:
                    for _ in steps:
                        pass
        except (NotImplementedError, RuntimeError) as error:
            return Counter([_describe_place(list(traceback.extract_tb(error.__traceback__)))])
    return Counter()
