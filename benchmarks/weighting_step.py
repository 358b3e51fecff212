"""What a weighted step costs: python -m benchmarks.weighting_step [--network NAME ...].

Time and memory of forward and backward pass for each way to the gradients, relative to a plain
forward and backward pass of the summed loss, with FairGrad (alpha 2). Ways take turns in one
process; a time's ratio is the median over rounds of its ratio to the same round's plain step.
Memory is the peak of what torch allocates during the step on top of what was there before it (on a
CPU from the profiler's allocation events), in a run of its own.

Next to ours, each where it can be imported (PYTHONPATH may point to copies): TorchJD in all its
settings, and LibMTL's way for gradients of parameters ("libmtl") and of features ("libmtl rep"),
with zero_grad() filling zeros in as it did in the torch that LibMTL 1.1.5 was written for; and the
published way, K full backward passes and gradients set by hand. All of them are given our solver in
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

from benchmarks.libmtl import gradient_step
from benchmarks.step_networks import NETWORKS, Problem
from core.weighting import backward, load_weighting, solve_alpha_fair
from core.weighting.gradients.task_gradients import compute_gram

Way = Callable[[], str]
ALPHA = 2.0
EXACT_PEERS = frozenset(
    {"published", "libmtl", "torchjd gram"}
    | {f"torchjd {way} {chunk}" for way in ("mtl", "all") for chunk in ("all", "1")}
)


def ways(problem: Problem) -> dict[str, Way]:
    """Return the ways by name; each takes one step and returns a remark."""
    found: dict[str, Way] = {"plain": lambda: _plain(problem)}
    for name in ("exact", "representation", "matrix_free", "auto"):
        found[name] = _ours(problem, name)
    found["published"] = lambda: _published(problem)
    if importlib.util.find_spec("torchjd") is not None:
        for chunk in (None, 1):
            found[f"torchjd mtl {chunk or 'all'}"] = _torchjd(problem, chunk, True)
            found[f"torchjd all {chunk or 'all'}"] = _torchjd(problem, chunk, False)
        found["torchjd gram"] = _autogram(problem)
    if importlib.util.find_spec("LibMTL") is not None:
        found["libmtl"] = gradient_step(problem, ALPHA, by_features=False)
        found["libmtl rep"] = gradient_step(problem, ALPHA, by_features=True)
    return found


def _plain(problem: Problem) -> str:
    torch.stack(problem.forward()[1]).sum().backward()
    return ""


def _ours(problem: Problem, strategy: str) -> Way:
    weighting = load_weighting("fairgrad", alpha=ALPHA)

    def step() -> str:
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

    return step


def _published(problem: Problem) -> str:
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


def _weigher() -> Any:
    bases = importlib.import_module("torchjd.aggregation._weighting_bases")

    class Fair(bases._GramianWeighting):  # type: ignore[misc,name-defined]
        def forward(self, gramian: Tensor, /) -> Tensor:
            return solve_alpha_fair(gramian, ALPHA).weights

    return Fair()


def _torchjd(problem: Problem, chunk: int | None, by_features: bool) -> Way:
    """TorchJD's Jacobians, through the features or not, batched or one by one."""
    autojac = importlib.import_module("torchjd.autojac")
    bases = importlib.import_module("torchjd.aggregation._aggregator_bases")
    aggregator = bases.GramianWeightedAggregator(_weigher())

    def step() -> str:
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

    return step


def _autogram(problem: Problem) -> Way:
    """TorchJD's Gram matrix without Jacobians, and one weighted backward pass."""
    problem = copy.deepcopy(problem)  # the engine puts hooks into the modules that stay
    autogram = importlib.import_module("torchjd.autogram")
    engine, weigher = autogram.Engine(problem.trunk, batch_dim=None), _weigher()

    def step() -> str:
        losses = torch.stack(problem.forward()[1])
        weights = weigher(engine.compute_gramian(losses))
        (weights * losses).sum().backward()
        return ""

    return step


def seconds(problem: Problem, way: Way) -> tuple[float, str]:
    problem.clear()
    start = _now(problem)
    remark = way()
    return _now(problem) - start, remark


def _now(problem: Problem) -> float:
    """Return the clock, or what this process has computed for, where it has one thread."""
    if problem.inputs.is_cuda:
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def peak(problem: Problem, way: Way) -> float:
    """Return the bytes that a step needs at most on top of what was there."""
    problem.clear()
    if problem.inputs.is_cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        way()
        return float(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        way()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return float(most)


def measure(
    name: str, problem: Problem, rounds: int, limit: float, wanted: list[str] | None
) -> None:
    """Print a line per way; a way that takes longer than ``limit`` seconds is measured once."""
    entries = {
        way: step
        for way, step in ways(problem).items()
        if way == "plain" or wanted is None or way in wanted
    }
    times: dict[str, list[float]] = {way: [] for way in entries}
    remarks: dict[str, str] = {}
    for way in list(entries):  # once to warm up, and to find out what works
        try:
            took, remarks[way] = seconds(problem, entries[way])
        except (RuntimeError, ValueError, NotImplementedError) as error:
            print(f"{name:10s} {way:17s} does not work: {str(error).splitlines()[0][:60]}")
            del entries[way]
            continue
        if took > limit:
            times[way].append(took)
    for _ in range(rounds):
        for way, take in entries.items():
            if len(times[way]) < rounds:
                took, remarks[way] = seconds(problem, take)
                times[way].append(took)
    plain, bytes_plain = times["plain"], peak(problem, entries["plain"])
    shared = sum(p.numel() * p.element_size() for p in problem.trunk.parameters())
    print(f"{name}: K {problem.tasks}, plain {statistics.median(plain) * 1e3:.0f} ms, "
          f"{bytes_plain / 2**20:.0f} MiB, parameters {shared / 2**20:.1f} MiB")  # fmt: skip
    ratios = {way: statistics.median(map(lambda a, b: a / b, times[way], plain)) for way in entries}
    for way, take in entries.items():
        memory = peak(problem, take)
        copies = (memory - bytes_plain) / shared / problem.tasks
        print(
            f"{name:10s} {way:17s} time {ratios[way]:6.2f}   memory {memory / bytes_plain:6.2f}"
            f"   (plain {copies:+5.2f} K x parameters)   {remarks[way]}",
            flush=True,
        )
    forward = _forward_share(problem, rounds)
    bound = forward + problem.tasks * (1 - forward)
    print(f"{name:10s} {'forward + K backward':17s} {bound:6.2f}")
    peers = {way: ratios[way] for way in ratios if way in EXACT_PEERS}
    if "exact" in ratios and peers:
        best = min(peers, key=lambda way: peers[way])
        print(
            f"{name:10s} exact is {ratios['exact'] / bound:.2f} of forward + K backward and "
            f"{ratios['exact'] / peers[best]:.2f} of the best exact peer, {best}"
        )
    print(flush=True)


def _forward_share(problem: Problem, rounds: int) -> float:
    shares = []
    for _ in range(max(3, rounds)):
        start = _now(problem)
        loss = torch.stack(problem.forward()[1]).sum()
        middle = _now(problem)
        loss.backward()
        shares.append((middle - start) / (_now(problem) - start))
    return statistics.median(shares)


def main() -> None:
    """Measure the networks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--ways", nargs="+", help="such as exact 'torchjd mtl 1'; all by default")
    parser.add_argument("--width", type=float, default=1.0, help="of the published channels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, help="1 takes processor time, on shared machines")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", type=int, default=0, help="steps of training before measuring")
    parser.add_argument("--limit", type=float, default=20, help="seconds; slower ways run once")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    for name in given.network:
        torch.manual_seed(0)
        problem = NETWORKS[name](given.width, given.batch).to(given.device)
        _train(problem, given.train)
        measure(name, problem, given.rounds, given.limit, given.ways)


def _train(problem: Problem, steps: int) -> None:
    parameters = nn.ModuleList([problem.trunk, problem.heads]).parameters()
    optimizer = torch.optim.Adam(parameters, 3e-4)
    for _ in range(steps):
        problem.renew()
        optimizer.zero_grad()
        loss = torch.stack(problem.forward()[1]).sum()
        loss.backward()
        optimizer.step()
    assert math.isfinite(float(torch.stack(problem.forward()[1]).sum().detach()))


if __name__ == "__main__":
    main()
