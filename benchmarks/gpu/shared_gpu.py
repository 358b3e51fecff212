"""Part h: several trials on one GPU, in processes, and with MPS."""

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from benchmarks.gpu.made_data import MadeImages, write_model
from benchmarks.gpu.report import Report, end_with_parent
from benchmarks.gpu.small_runs import load_benchmark, silence_process
from benchmarks.gpu.step_shares import make_run
from core.training.run import Run

COUNTS = (1, 2, 4, 8)  # trials at once
TRIALS = ("small", "middle")
DAEMON = "nvidia-cuda-mps-control"


def time_shared_gpu(report: Report) -> None:
    """Part h: trials side by side on one GPU."""
    model = write_model("resnet", report.quick, report.folder)
    counts = COUNTS[:2] if report.quick else COUNTS
    with tempfile.TemporaryDirectory() as name:
        workers = _start_workers(report, model, counts[-1])
        has_mps = report.is_cuda and shutil.which(DAEMON) is not None
        with _name_mps_folders(Path(name)):  # they load their modules beside the first ones
            others = _start_workers(report, model, counts[-1]) if has_mps else []
        rates = _time_trials(report, workers, "processes", counts)
        best = max(rates["small"]) / rates["small"][0]
        text = f"small trials at once: up to {best:.2f} times the epochs of one (1.5)"
        report.add_verdict(best > 1.5, text, "fast")
        if not has_mps:
            report.print_line(f"  left out: MPS ({DAEMON} is not here)")
            return
        with _name_mps_folders(Path(name)), _run_mps():
            _time_trials(report, others, "with MPS", counts)


class Worker(NamedTuple):
    """A process that trains, and the pipe to it.

    Args:
        pipe: Takes orders.
        process: The process, which uses the GPU from its first order on.
    """

    pipe: Connection
    process: SpawnProcess


def _start_workers(report: Report, model: str, count: int) -> list[Worker]:
    context = multiprocessing.get_context("spawn")
    found = []
    for _ in range(count):
        mine, theirs = context.Pipe()
        given = (theirs, report.device, model, report.quick)
        process = context.Process(target=_run_trials, args=given, daemon=True)
        process.start()
        theirs.close()  # so that its end is noticed
        found.append(Worker(mine, process))
    return found


def _time_trials(
    report: Report, workers: list[Worker], way: str, counts: tuple[int, ...]
) -> dict[str, list[float]]:
    """Return epochs an hour of each trial by the number of processes, which then end."""
    start = time.perf_counter()
    pipes = [worker.pipe for worker in workers]
    rates: dict[str, list[float]] = {}
    for trial in TRIALS:
        for pipe in pipes:
            pipe.send(trial)
        first = max(pipe.recv() for pipe in pipes)
        rates[trial] = []
        for count in counts:
            for pipe in pipes[:count]:
                pipe.send(0.5 if report.quick else 1.0)
            rates[trial].append(sum(pipe.recv() for pipe in pipes[:count]) * 3600)
        row = {"first epoch s": first, "epochs an hour": rates[trial]}
        report.add_figure(f"{trial}, {way}", row)
        ratios = ", ".join(f"{rate / rates[trial][0]:.2f}" for rate in rates[trial])
        report.print_line(
            f"  {trial}, {way}: {rates[trial][0]:,.0f} epochs an hour alone; of "
            f"{', '.join(map(str, counts))} at once {ratios} times; "
            f"{time.perf_counter() - start:.0f} s"
        )
    for pipe in pipes:
        pipe.send(None)
    for worker in workers:
        worker.process.join(5)
    return rates


@contextmanager
def _name_mps_folders(folder: Path) -> Iterator[None]:
    """Let processes that start in a ``with`` block look for the multi-process service there."""
    places = {f"CUDA_MPS_{kind}_DIRECTORY": str(folder / kind) for kind in ("PIPE", "LOG")}
    for place in places.values():
        Path(place).mkdir(exist_ok=True)
    with mock.patch.dict(os.environ, places):
        yield


@contextmanager
def _run_mps() -> Iterator[None]:
    """Run NVIDIA's multi-process service for the processes that use the GPU meanwhile."""
    subprocess.run([DAEMON, "-d"], check=True, timeout=20)
    try:
        yield
    finally:
        subprocess.run([DAEMON], input="quit\n", text=True, timeout=20)


def _run_trials(pipe: Any, device: str, model: str, quick: bool) -> None:
    """Take orders: a trial to begin, or the seconds to train it for."""
    end_with_parent()
    silence_process()
    run: Run | None = None
    while (order := pipe.recv()) is not None:
        start, epochs = time.perf_counter(), 0
        if isinstance(order, str):
            run = _make_trial(order, device, model, quick)
            for _ in range(2):  # the second captures its steps
                run.train_epoch()
            pipe.send(time.perf_counter() - start)
            continue
        assert run is not None
        while time.perf_counter() - start < order:
            run.train_epoch()
            epochs += 1
        pipe.send(epochs / (time.perf_counter() - start))


def _make_trial(trial: str, device: str, model: str, quick: bool) -> Run:
    """Return a run of a small network on digits, or of a ResNet-50 on photographs."""
    cuda, size = device == "cuda", 4 if quick else 32
    if trial == "small":
        benchmark = load_benchmark("colored_digits")
        return make_run(benchmark, "erm", "", cuda, "auto", 32, epochs=100_000)
    photographs = MadeImages(*((16, 48) if quick else (160, 256)))
    return make_run(photographs, "erm", model, cuda, "auto", size, epochs=100_000)
