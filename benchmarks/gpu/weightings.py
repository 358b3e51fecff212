"""Part c: weightings, strategies and the alpha-fair solver, a GPU against the CPU."""

import copy
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.report import Report
from benchmarks.gpu.small_runs import disable_tf32
from benchmarks.step_networks import NETWORKS, Problem
from common.cpus import count_cpus
from core.registry import find_components
from core.weighting import (
    GramWeighting,
    LossWeighting,
    Weighting,
    backward,
    load_weighting,
    solve_alpha_fair,
    solve_alpha_fair_on_device,
)


def check_weightings(report: Report) -> None:
    """Part c: weightings and strategies against the host, and the solver on the device."""
    torch.set_num_threads(1 if report.quick else min(4, count_cpus()))  # beside other parts
    report.attempt("strategies", lambda: _check_strategies(report))
    report.attempt("every weighting", lambda: _check_every_weighting(report))
    report.attempt("solver", lambda: _check_solver(report))
    if report.is_cuda:
        report.attempt("graph", lambda: _check_graph(report))


def _copy_problem(problem: Problem, device: str, kind: torch.dtype) -> Problem:
    found = copy.deepcopy(problem)
    found.trunk.to(device, kind)
    found.heads.to(device, kind)
    found.inputs = found.inputs.to(device, kind)
    found.targets = [target.to(device, kind) for target in found.targets]
    return found


def _take_step(
    problem: Problem, weighting: Weighting, strategy: str
) -> tuple[Tensor, Tensor | None, str]:
    """Return the step's gradients on the host, its weights and the strategy that was taken."""
    problem.clear_gradients()
    torch.manual_seed(5)
    features, losses = problem.forward()
    done = backward(
        losses,
        weighting,
        shared=problem.trunk.parameters(),
        heads=problem.heads.parameters(),
        features=features,
        strategy=strategy,
    )
    parameters = [*problem.trunk.parameters(), *problem.heads.parameters()]
    rows = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    weights = None if done.weights is None else done.weights.double().cpu()
    return torch.cat([r.double().cpu().flatten() for r in rows]), weights, done.strategy


def _compute_error(found: Tensor, expected: Tensor) -> float:
    value = float((found - expected).norm() / expected.norm())
    return value if value == value else float("inf")


def _check_strategies(report: Report) -> None:
    rows, worst = [], {"float64": 0.0, "float32": 0.0}
    names = (
        ("resnet", "mlp-40")
        if report.quick
        else ("segnet-2", "segnet-3", "resnet", "celeba", "mlp-40")
    )
    for name in names:
        torch.manual_seed(0)
        problem = NETWORKS[name](0.06, 8)
        host = _copy_problem(problem, "cpu", torch.float64)
        for strategy in ("exact", "representation", "matrix_free"):
            expected, weights, taken = _take_step(
                host, load_weighting("fairgrad", alpha=2.0), strategy
            )
            row: list[Any] = [name, problem.tasks, f"{strategy} ({taken})"]
            for kind in (torch.float64, torch.float32):
                there = _copy_problem(problem, report.device, kind)
                with disable_tf32():
                    found, ours, took = _take_step(
                        there, load_weighting("fairgrad", alpha=2.0), strategy
                    )
                apart = _compute_error(found, expected)
                assert ours is not None
                assert weights is not None
                label = "float64" if kind == torch.float64 else "float32"
                row += [apart, _compute_error(ours, weights), took]
                worst[label] = max(worst[label], apart if took == taken else float("inf"))
            rows.append(row)
            shipped = _copy_problem(problem, report.device, torch.float32)
            row.append(
                _compute_error(
                    _take_step(shipped, load_weighting("fairgrad", alpha=2.0), strategy)[0],
                    expected,
                )
            )
            report.add_figure(f"{name} {strategy}", row)
    report.print_line("relative error of the gradients and weights, against the host in float64")
    report.print_table(
        [
            "network",
            "K",
            "strategy",
            "float64",
            "weights",
            "took",
            "float32",
            "weights",
            "took",
            "float32 as shipped",
        ],
        rows,
    )
    report.add_verdict(
        worst["float64"] < 1e-6,
        f"all strategies in float64: within {worst['float64']:.2g} of the host (1e-6)",
    )
    report.add_verdict(
        worst["float32"] < 1e-2,
        f"all strategies in float32 without TF32: within {worst['float32']:.2g} (1e-2)",
    )


def _check_every_weighting(report: Report) -> None:
    rows: list[list[Any]] = []
    wrong: list[str] = []
    random = ("rlw", "graddrop", "pcgrad")
    torch.manual_seed(0)
    problem = NETWORKS["mlp-11"](0.05, 16)
    for name in sorted(find_components("core.weighting.methods", Weighting)):
        try:
            ours, theirs = load_weighting(name), load_weighting(name)
        except Exception as error:
            report.print_line(f"  {name}: {error}")
            continue
        for weighting in (ours, theirs):
            weighting.setup([f"loss{i}" for i in range(problem.tasks)])
        ours.to(report.device)
        family = (
            "losses"
            if isinstance(ours, LossWeighting)
            else ("gram" if isinstance(ours, GramWeighting) else "gradients")
        )
        there = _copy_problem(problem, report.device, torch.float64)
        host = _copy_problem(problem, "cpu", torch.float64)
        apart = []
        for _ in range(3):  # the state must agree too
            found, expected = (
                _take_step(there, ours, "exact")[0],
                _take_step(host, theirs, "exact")[0],
            )
            apart.append(_compute_error(found, expected))
        rows.append([name, family, *apart, "draws" if name in random else ""])
        if max(apart) > 1e-6 and name not in random:
            wrong.append(f"{name} {max(apart):.2g}")
    report.print_table(["weighting", "needs", "step 1", "step 2", "step 3", ""], rows)
    report.add_verdict(
        not wrong, f"every weighting in float64 as on the host (1e-6); not: {wrong or 'none'}"
    )


def _make_grams(device: str) -> Iterator[tuple[str, Tensor]]:
    random = torch.Generator().manual_seed(1)
    for tasks in (2, 3, 11, 40):
        for kind in ("free", "alike", "opposed", "scaled"):
            rows = torch.randn(tasks, 3 * tasks, generator=random, dtype=torch.float64)
            if kind == "alike":
                rows = rows * 0.05 + rows[:1]
            if kind == "opposed":
                rows = rows - 0.97 * rows.mean(0)
            if kind == "scaled":
                rows = rows * torch.logspace(-3, 3, tasks, dtype=torch.float64)[:, None]
            yield f"K {tasks} {kind}", (rows @ rows.T).to(device)


def _check_solver(report: Report) -> None:
    worst: dict[float, tuple[float, str]] = {}
    disagree = []
    for alpha in (0.5, 1.0, 2.0, 5.0):
        for name, gram in _make_grams(report.device):
            host = solve_alpha_fair(gram.cpu(), alpha)
            there = solve_alpha_fair_on_device(gram, alpha)
            apart = _compute_error(there.weights.cpu(), host.weights)
            worst[alpha] = max(worst.get(alpha, (0.0, "")), (apart, name))
            if (int(there.status) > 0) != (host.status != "solved"):
                disagree.append(f"alpha {alpha:g}, {name}: {int(there.status)}, {host.status}")
    for alpha, (apart, name) in worst.items():
        report.add_verdict(
            apart < 1e-6,
            f"alpha_fair_on_device, alpha {alpha:g}: within {apart:.2g} "
            f"of the host (1e-6), at {name}",
        )
    report.print_line(f"  solved by one and not by the other: {disagree or 'none'}")


def _check_graph(report: Report) -> None:
    """Replay a captured solver with new matrices, and time it against the host's."""
    rows, worst = [], 0.0
    for tasks in (2, 3, 11, 40):
        grams = [gram for name, gram in _make_grams("cuda") if name.startswith(f"K {tasks} ")]
        place = grams[0].clone()
        weighting = load_weighting("fairgrad", alpha=2.0).cuda()
        assert isinstance(weighting, GramWeighting)
        solve_alpha_fair_on_device(place, 2.0)  # libraries make their handles outside of a graph
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = weighting.compute_weights(place)
        for gram in grams:
            place.copy_(gram)
            graph.replay()
            worst = max(
                worst, _compute_error(captured.cpu(), solve_alpha_fair(gram.cpu(), 2.0).weights)
            )
        outside = load_weighting("fairgrad", alpha=2.0).cuda()
        assert isinstance(outside, GramWeighting)
        rows.append(
            [
                tasks,
                _time_call(graph.replay, 20),
                _time_call(partial(outside.compute_weights, place), 20),
                _time_call(partial(solve_alpha_fair_on_device, place, 2.0), 3),
            ]
        )
    report.print_line("milliseconds for the weights of one Gram matrix")
    report.print_table(["K", "graph replay", "host solver and copies", "on device, no graph"], rows)
    report.add_verdict(
        worst < 1e-6,
        f"the captured solver, replayed with new matrices: within {worst:.2g} of the host (1e-6)",
    )


def _time_call(work: Callable[[], Any], times: int) -> float:
    work()
    found = []
    for _ in range(times):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return sorted(found)[len(found) // 2] * 1e3
