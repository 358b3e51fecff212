"""Part f: the cost of a weighted step relative to a scalarised one."""

import statistics
import time
from typing import Any

import torch

from benchmarks.gpu.report import Report
from benchmarks.step_networks import NETWORKS, Problem
from benchmarks.weighting_step import list_steps, measure_peak_bytes, time_step

STRATEGIES = ("scalarised", "exact", "representation", "matrix_free", "auto")


def time_weighted_steps(report: Report) -> None:
    """Part f: what a weighted step costs, relative to a scalarised one."""
    head = [
        "network",
        "K",
        "scalarised ms",
        "forward + K backward",
        *(f"{strategy} x" for strategy in STRATEGIES[1:]),
        "memory of exact x",
        "matrix-free",
    ]
    rows: list[list[Any]] = []
    late = []
    names = ("segnet-2", "segnet-3", "resnet", "celeba", "mlp-11", "mlp-40")
    for name in names[4:5] if report.quick else names:
        torch.manual_seed(0)
        width, batch = (0.06, 16) if report.quick else (1.0, 64)
        problem = NETWORKS[name](width, batch).to(report.device)
        row, bound = _time_network(problem, 2 if report.quick else 8)
        rows.append([name, problem.tasks, *row])
        if row[2] > 1.05 * bound:
            late.append(f"{name} {row[2]:.2f} against {bound:.2f}")
        report.add_figure(name, dict(zip(head[1:], rows[-1][1:], strict=True)))
        del problem
    report.print_line("float32; times are multiples of a scalarised step's, medians")
    report.print_table(head, rows)
    report.add_verdict(
        not late, f"exact steps take at most forward + K backward; not: {late or 'none'}", "fast"
    )


def _time_network(problem: Problem, repetitions: int) -> tuple[list[Any], float]:
    steps = {name: step for name, step in list_steps(problem).items() if name in STRATEGIES}
    times: dict[str, list[float]] = {name: [] for name in steps}
    remark = ""
    for warm in range(2):
        for step in steps.values():
            time_step(problem, step)
        del warm
    for _ in range(repetitions):
        for name, step in steps.items():
            took, said = time_step(problem, step)
            times[name].append(took)
            remark = said if name == "matrix_free" else remark
    middle = {name: statistics.median(found) for name, found in times.items()}
    forward, back = _time_passes(problem, repetitions)
    bound = (forward + problem.tasks * back) / (forward + back)
    memory = measure_peak_bytes(problem, steps["exact"]) / measure_peak_bytes(
        problem, steps["scalarised"]
    )
    plain = middle["scalarised"]
    ratios = [middle[name] / plain for name in STRATEGIES[1:]]
    return [plain * 1e3, bound, *ratios, memory, remark], bound


def _time_passes(problem: Problem, repetitions: int) -> tuple[float, float]:
    """Return the seconds of a forward and of a backward pass, each waited for."""

    def wait() -> float:
        if problem.inputs.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    found = []
    for _ in range(repetitions):
        problem.clear_gradients()
        start = wait()
        loss = torch.stack(problem.forward()[1]).sum()
        between = wait()
        loss.backward()
        found.append((between - start, wait() - between))
    return statistics.median(f for f, _ in found), statistics.median(b for _, b in found)
