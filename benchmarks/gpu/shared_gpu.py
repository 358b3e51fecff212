"""Part h: several trials on one GPU."""

import multiprocessing
import time
from typing import Any

import datasets
from benchmarks.gpu.report import Report, end_with_parent
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.profiling import measure_usage
from core.training.run import Run


def time_shared_gpu(report: Report) -> None:
    """Part h: trials side by side on one GPU."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    most = 2 if report.quick else 4
    for _ in range(most):
        mine, theirs = context.Pipe()
        process = context.Process(target=_run_trial, args=(theirs, report.device), daemon=True)
        process.start()
        pipes.append(mine)
        processes.append(process)
    rows = []
    for method, dataset in (("erm", "colored_digits"), ("fairgrad", "two_digits")):
        for pipe in pipes:
            pipe.send((method, dataset))
        taken = [pipe.recv() for pipe in pipes]
        if report.is_cuda:
            pipes[0].send("usage")
            busy = pipes[0].recv()
        else:
            busy = "-"
        rates = []
        for count in (1, 2, 4)[: 3 if most == 4 else 2]:
            for pipe in pipes[:count]:
                pipe.send(1.0 if report.quick else 5.0)
            rates.append(sum(pipe.recv() for pipe in pipes[:count]) * 3600)
        ratios = [rate / rates[0] for rate in rates]
        rows.append([f"{method}/{dataset}", f"{max(taken):.1f}", busy, rates[0], *ratios[1:]])
        report.add_figure(f"{method}/{dataset}", {"epochs an hour": rates, "busy": busy})
        report.add_verdict(
            ratios[-1] > 1.5,
            f"{most} trials of {method} on {dataset} at once: "
            f"{ratios[-1]:.2f} times the epochs of one",
            "fast",
        )
    report.print_table(
        [
            "trial",
            "first epoch s",
            "busy alone",
            "epochs/h alone",
            *(f"{n} at once x" for n in (2, 4)[: most // 2]),
        ],
        rows,
    )
    for pipe in pipes:
        pipe.send(None)
    for process in processes:
        process.join(5)


def _run_trial(pipe: Any, device: str) -> None:
    end_with_parent()
    run: Run | None = None

    def make_run(method: str, dataset: str) -> Run:
        benchmark = datasets.load_benchmark(dataset)
        environment = detect_environment(device == "cuda", 1)
        resolved = resolve_method(load_method(method), benchmark)
        return Run(resolved.make_key({"epochs": 100000}, 0, environment), benchmark)

    name = ("", "")
    while (order := pipe.recv()) is not None:
        if isinstance(order, tuple):
            start = time.perf_counter()
            name = order
            run = make_run(*name)
            run.train_epoch()
            pipe.send(time.perf_counter() - start)
        elif order == "usage":
            found = measure_usage(make_run(*name))
            text = "not measured" if found.busy is None else f"{found.busy:.2f}"
            pipe.send(f"{text}, {found.memory / 2**20:.0f} MiB, {found.seconds * 1e3:.2f} ms")
        else:
            assert run is not None
            start, epochs = time.perf_counter(), 0
            while time.perf_counter() - start < order:
                run.train_epoch()
                epochs += 1
            pipe.send(epochs / (time.perf_counter() - start))
