"""Cost of a weighted step: python -m benchmarks.weighting_step [--network NAME ...].

Time and memory of forward and backward pass for each strategy, relative to a forward and backward
pass of the summed loss ("scalarised"), with FairGrad (alpha 2). Strategies take turns in one
process; a time's ratio is the median over repetitions of its ratio to the scalarised step of the
same repetition.
Memory is the peak of the bytes that torch allocates during the step on top of those before it (on a
CPU from the profiler's allocation events), in a run of its own.

Next to ours, each where it can be imported (PYTHONPATH may point to copies): TorchJD in all its
settings, and LibMTL with gradients of parameters ("libmtl") and of features ("libmtl rep"),
with zero_grad() filling zeros in as it did in the torch that LibMTL 1.1.5 was written for; and the
published code, K full backward passes and gradients set by hand. All of them get our solver in
place of their own, so that only gradients are compared.
"""

import argparse
import copy
import importlib
import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.libmtl import make_libmtl_step
from benchmarks.step_networks import NETWORKS, Problem
from core.weighting import backward, load_weighting, solve_alpha_fair
from core.weighting.gradients.task_gradients import compute_gram

TakeStep = Callable[[], str]
ALPHA = 2.0
EXACT_PEERS = frozenset(
    {"published", "libmtl", "torchjd gram"}
    | {f"torchjd {kind} {chunk}" for kind in ("mtl", "all") for chunk in ("all", "1")}
)


def list_steps(problem: Problem) -> dict[str, TakeStep]:
    """Return steps by name; each takes one step and returns a remark."""
    found: dict[str, TakeStep] = {"scalarised": lambda: _take_scalarised_step(problem)}
    for name in ("exact", "representation", "matrix_free", "auto"):
        found[name] = _make_engine_step(problem, name)
    found["published"] = lambda: _take_published_step(problem)
    if importlib.util.find_spec("torchjd") is not None:
        for chunk in (None, 1):
            found[f"torchjd mtl {chunk or 'all'}"] = _make_torchjd_step(problem, chunk, True)
            found[f"torchjd all {chunk or 'all'}"] = _make_torchjd_step(problem, chunk, False)
        found["torchjd gram"] = _make_autogram_step(problem)
    if importlib.util.find_spec("LibMTL") is not None:
        found["libmtl"] = make_libmtl_step(problem, ALPHA, by_features=False)
        found["libmtl rep"] = make_libmtl_step(problem, ALPHA, by_features=True)
    return found


def _take_scalarised_step(problem: Problem) -> str:
    torch.stack(problem.forward()[1]).sum().backward()
    return ""


def _make_engine_step(problem: Problem, strategy: str) -> TakeStep:
    weighting = load_weighting("fairgrad", alpha=ALPHA)

    def take_step() -> str:
        features, losses = problem.forward()
        done = backward(
            losses,
            weighting,
            shared=problem.trunk.parameters(),
            heads=problem.heads.parameters(),
            features=features,
            strategy=strategy,
        )
        return f"{done.strategy}, {done.products} products" if done.products else done.strategy

    return take_step


def _take_published_step(problem: Problem) -> str:
    losses = problem.forward()[1]
    shared = list(problem.trunk.parameters())
    rows = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, shared, retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in gradients]))
    matrix = torch.stack(rows)
    weights = solve_alpha_fair(compute_gram(matrix), ALPHA).weights.to(matrix)
    torch.stack(losses).sum().backward()  # for the heads; the shared gradients are overwritten
    pieces = (weights @ matrix).split([p.numel() for p in shared])
    for parameter, piece in zip(shared, pieces, strict=True):
        parameter.grad = piece.view_as(parameter)
    return ""


def _make_torchjd_weighting() -> Any:
    bases = importlib.import_module("torchjd.aggregation._weighting_bases")

    class Fair(bases._GramianWeighting):  # type: ignore[misc,name-defined]
        def forward(self, gramian: Tensor, /) -> Tensor:
            return solve_alpha_fair(gramian, ALPHA).weights

    return Fair()


def _make_torchjd_step(problem: Problem, chunk: int | None, by_features: bool) -> TakeStep:
    """TorchJD's Jacobians, through the features or not, batched or one by one."""
    autojac = importlib.import_module("torchjd.autojac")
    bases = importlib.import_module("torchjd.aggregation._aggregator_bases")
    aggregator = bases.GramianWeightedAggregator(_make_torchjd_weighting())

    def take_step() -> str:
        features, losses = problem.forward()
        if by_features:
            autojac.mtl_backward(losses, features=features, parallel_chunk_size=chunk)
        else:
            shared = list(problem.trunk.parameters())
            autojac.backward(losses, inputs=shared, parallel_chunk_size=chunk, retain_graph=True)
            torch.autograd.backward(losses, inputs=list(problem.heads.parameters()))
        autojac.jac_to_grad(
            problem.trunk.parameters(), aggregator, optimize_gramian_computation=True
        )
        return ""

    return take_step


def _make_autogram_step(problem: Problem) -> TakeStep:
    """TorchJD's Gram matrix without Jacobians, and one weighted backward pass."""
    problem = copy.deepcopy(problem)  # the engine puts hooks into the modules that stay
    autogram = importlib.import_module("torchjd.autogram")
    engine, weighting = autogram.Engine(problem.trunk, batch_dim=None), _make_torchjd_weighting()

    def take_step() -> str:
        losses = torch.stack(problem.forward()[1])
        weights = weighting(engine.compute_gramian(losses))
        (weights * losses).sum().backward()
        return ""

    return take_step


def time_step(problem: Problem, take_step: TakeStep) -> tuple[float, str]:
    problem.clear_gradients()
    start = read_clock(problem)
    remark = take_step()
    return read_clock(problem) - start, remark


def read_clock(problem: Problem) -> float:
    """Return the clock, or the processor time of a process with one thread."""
    if problem.inputs.is_cuda:
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def measure_peak_bytes(problem: Problem, take_step: TakeStep) -> float:
    """Return the most bytes that a step allocates on top of those before it."""
    problem.clear_gradients()
    if problem.inputs.is_cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        take_step()
        return float(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        take_step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return float(most)


def measure_network(
    name: str, problem: Problem, repetitions: int, limit: float, wanted: list[str] | None
) -> None:
    """Print a line per step; a step that takes longer than ``limit`` seconds is measured once."""
    steps = {
        kind: step
        for kind, step in list_steps(problem).items()
        if kind == "scalarised" or wanted is None or kind in wanted
    }
    times, remarks = time_steps(name, problem, steps, repetitions, limit)
    base, base_bytes = times["scalarised"], measure_peak_bytes(problem, steps["scalarised"])
    shared = sum(p.numel() * p.element_size() for p in problem.trunk.parameters())
    print(f"{name}: K {problem.tasks}, scalarised {statistics.median(base) * 1e3:.0f} ms, "
          f"{base_bytes / 2**20:.0f} MiB, parameters {shared / 2**20:.1f} MiB")  # fmt: skip
    ratios = {kind: statistics.median(map(lambda a, b: a / b, times[kind], base)) for kind in times}
    for kind, ratio in ratios.items():
        memory = measure_peak_bytes(problem, steps[kind])
        copies = (memory - base_bytes) / shared / problem.tasks
        print(
            f"{name:10s} {kind:17s} time {ratio:6.2f}   memory {memory / base_bytes:6.2f}"
            f"   (scalarised {copies:+5.2f} K x parameters)   {remarks[kind]}",
            flush=True,
        )
    forward = _measure_forward_share(problem, repetitions)
    _print_bound(name, ratios, forward + problem.tasks * (1 - forward))


def time_steps(
    name: str, problem: Problem, steps: dict[str, TakeStep], repetitions: int, limit: float
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the seconds of each repetition, and the last remark, of the steps that work."""
    times: dict[str, list[float]] = {}
    remarks: dict[str, str] = {}
    for kind, step in steps.items():  # once to warm up, and to see which work
        try:
            took, remarks[kind] = time_step(problem, step)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            print(f"{name:10s} {kind:17s} does not work: {str(error).splitlines()[0][:60]}")
            continue
        times[kind] = [took] if took > limit else []
    for _ in range(repetitions):
        for kind, seconds in times.items():
            if len(seconds) < repetitions:
                took, remarks[kind] = time_step(problem, steps[kind])
                seconds.append(took)
    return times, remarks


def _print_bound(name: str, ratios: dict[str, float], bound: float) -> None:
    """Print the cost of one forward and K backward passes, and the best exact peer."""
    print(f"{name:10s} {'forward + K backward':17s} {bound:6.2f}")
    peers = {kind: ratio for kind, ratio in ratios.items() if kind in EXACT_PEERS}
    if "exact" in ratios and peers:
        best = min(peers, key=lambda kind: peers[kind])
        print(
            f"{name:10s} exact is {ratios['exact'] / bound:.2f} of forward + K backward and "
            f"{ratios['exact'] / peers[best]:.2f} of the best exact peer, {best}"
        )
    print(flush=True)


def _measure_forward_share(problem: Problem, repetitions: int) -> float:
    shares = []
    for _ in range(max(3, repetitions)):
        start = read_clock(problem)
        loss = torch.stack(problem.forward()[1]).sum()
        middle = read_clock(problem)
        loss.backward()
        shares.append((middle - start) / (read_clock(problem) - start))
    return statistics.median(shares)


def main() -> None:
    """Measure the networks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument(
        "--strategies", nargs="+", help="such as exact 'torchjd mtl 1'; all by default"
    )
    parser.add_argument("--width", type=float, default=1.0, help="of the published channels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, help="1 takes processor time, on shared machines")
    parser.add_argument("--repetitions", type=int, default=3, help="repetitions of each step")
    parser.add_argument("--train", type=int, default=0, help="steps of training before measuring")
    parser.add_argument("--limit", type=float, default=20, help="seconds; slower ways run once")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    for name in given.network:
        torch.manual_seed(0)
        problem = NETWORKS[name](given.width, given.batch).to(given.device)
        train_network(problem, given.train)
        measure_network(name, problem, given.repetitions, given.limit, given.strategies)


def train_network(problem: Problem, steps: int) -> None:
    parameters = nn.ModuleList([problem.trunk, problem.heads]).parameters()
    optimizer = torch.optim.Adam(parameters, 3e-4)
    for _ in range(steps):
        problem.draw_batch()
        optimizer.zero_grad()
        loss = torch.stack(problem.forward()[1]).sum()
        loss.backward()
        optimizer.step()
    assert math.isfinite(float(torch.stack(problem.forward()[1]).sum().detach()))


if __name__ == "__main__":
    main()
