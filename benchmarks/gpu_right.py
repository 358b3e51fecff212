"""The parts of :mod:`benchmarks.gpu` that say whether what is computed on a GPU is right."""

import copy
import io
import itertools
import linecache
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import datasets
from benchmarks.gpu_data import small
from benchmarks.gpu_report import Report, end_with_parent
from benchmarks.step_networks import NETWORKS, Problem
from core import method as methods
from core.environment import detect
from core.key import make_key
from core.registry import components
from core.run import Row, Run
from core.usage import first_steps
from core.weighting import alpha_fair, alpha_fair_on_device, backward, load
from core.weighting.base import GramWeighting, LossWeighting, Weighting
from datasets.benchmark import Benchmark

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ("colored_digits", "two_digits", "imbalanced_tasks")
MADE = ("made_texts", "made_images")
EARLY = 5  # steps after which rounding has not grown yet
# Relative deviations of losses from the CPU's: after EARLY steps in float32, as it is set up
# (cuDNN may round convolutions' inputs to TF32) and without TF32; after two epochs; bfloat16.
STRICT, SHIPPED, TRAINED, HALF = 1e-3, 1e-2, 0.1, 0.3
# Where a wait for the device is meant: solvers on the host get K x K numbers.
MEANT = ("core/weighting/host.py", "core/weighting/alpha_fair_solver.py")
WORKERS = 14


@cache
def benchmark_of(name: str) -> Benchmark:
    return small(name) if name in MADE else datasets.load(name)


def pairs(quick: bool) -> list[tuple[str, str]]:
    """Return methods and data sets that fit each other, data sets in turn."""
    found: list[list[tuple[str, str]]] = []
    for name in (*EMBEDDED, *MADE):
        provides = benchmark_of(name).provides
        fitting = [m for m in methods.names() if methods.load(m).needs <= provides]
        found.append([(m, name) for m in fitting])
    if quick:
        found = [entries[6:7] for entries in found]
    turns = itertools.zip_longest(*found)
    return [pair for turn in turns for pair in turn if pair is not None]


def made_run(
    method: str, dataset: str, device: str, precision: str = "float32", exact: bool = False,
    **config: Any,
) -> Run:  # fmt: skip
    """Return a run of two epochs a stage at most, of larger batches than usual."""
    benchmark, recipe = benchmark_of(dataset), methods.load(method)
    given: dict[str, Any] = {"epochs": 2, "batch_size": 64, **config}
    given |= {k: 1 for k in ("T", "pretrain_epochs") if k in recipe.knobs(benchmark)}
    environment = detect(device == "cuda", 1, exact, precision)
    return Run(make_key(recipe, benchmark, given, 0, environment), benchmark)


def finished(run: Run) -> list[Row]:
    rows = []
    while run.rounds_done < run.total_rounds:
        rows.append({k: v for k, v in run.round().items() if k != "seconds"})
    return rows


def weights_of(run: Run) -> Tensor:
    return torch.cat([p.detach().double().cpu().flatten() for p in run.model.parameters()])


def deviation(found: Mapping[str, float], expected: Mapping[str, float]) -> float:
    """Return the largest relative difference; infinite where one is not finite."""
    apart = [abs(found[name] - value) / max(abs(value), 1e-8) for name, value in expected.items()]
    return max((a if a == a else float("inf") for a in apart), default=0.0)


def trained(run: Run) -> tuple[dict[str, float], list[Row], Tensor]:
    """Return the last losses, all rows and the weights."""
    rows = finished(run)
    losses = next((row["losses"] for row in reversed(rows) if row["losses"]), {})
    return losses, rows, weights_of(run)


def early(run: Run) -> tuple[dict[str, float], Tensor]:
    """Return the mean losses of the first steps and the weights after them."""
    *_, trainer = first_steps(run, 0, EARLY)
    return trainer.means(), weights_of(run)


@contextmanager
def without_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def compare(method: str, dataset: str, device: str) -> dict[str, Any]:
    """Return how one method on one data set compares; failures by what failed."""
    found: dict[str, Any] = {"method": method, "dataset": dataset, "failed": {}}
    make = partial(made_run, method, dataset)
    values: dict[str, Any] = {}

    def attempt(name: str, work: Callable[[], Any]) -> None:
        try:
            values[name] = work()
        except Exception as error:
            text = (str(error).strip() or "?").splitlines()[0][:200]
            frames = traceback.extract_tb(error.__traceback__)
            own = [f for f in frames if "/core/" in f.filename or "/datasets/" in f.filename]
            last = own[-1] if own else frames[-1]
            place = f"{_relative(last.filename)}:{last.lineno} {last.name}: {last.line}"
            found["failed"][name] = f"{type(error).__name__}: {text} [{place}]"

    def stopped_and_resumed() -> tuple[dict[str, float], list[Row], Tensor]:
        first = make(device, exact=True)
        rows = [{k: v for k, v in first.round().items() if k != "seconds"}]
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second = make(device, exact=True)
        second.load_state_dict(torch.load(file, weights_only=True))
        rows += finished(second)
        return rows[-1]["losses"], rows, weights_of(second)

    # Deterministic first: what CUDA's libraries are told then must be told before they are used.
    attempt("deterministic", lambda: trained(make(device, exact=True)))
    attempt("again", lambda: trained(make(device, exact=True)))
    attempt("resumed", stopped_and_resumed)
    attempt("shipped", lambda: trained(make(device)))
    if device == "cuda":
        start = torch.Generator(device="cuda").manual_seed(0).get_state()[8:]
        found["draws_on_device"] = bool((torch.cuda.get_rng_state()[8:] != start).any())
    attempt("bfloat16", lambda: trained(make(device, "bfloat16")))
    attempt("host", lambda: trained(make("cpu")))
    attempt("early host", lambda: early(make("cpu")))
    attempt("early shipped", lambda: early(make(device)))
    with without_tf32():
        attempt("early strict", lambda: early(make(device)))

    def same(name: str) -> None:
        if name in values and "deterministic" in values:
            one, other = values["deterministic"], values[name]
            equal = torch.equal(one[2], other[2]) and repr(one[1]) == repr(other[1])
            found[name] = equal
            if not equal:
                found[f"{name} differs"] = _difference(one, other)

    same("again")
    same("resumed")
    compared = {"shipped": "host", "bfloat16": "shipped", "early shipped": "early host",
                "early strict": "early host"}  # fmt: skip
    for name, reference in compared.items():
        if name in values and reference in values:
            found[name] = deviation(values[name][0], values[reference][0])
            ours, theirs = values[name][-1], values[reference][-1]
            found[f"{name} weights"] = float((ours - theirs).norm() / theirs.norm())
    return found


def _difference(one: Any, other: Any) -> str:
    parts = [f"weights by {float((one[2] - other[2]).abs().max()):.2g}"]
    for mine, yours in zip(one[1], other[1], strict=True):
        keys = [k for k in mine if repr(mine[k]) != repr(yours.get(k))]
        if keys:
            parts.append(f"round {mine['round']}: {', '.join(keys)}")
    return "; ".join(parts)


def runs(report: Report) -> None:
    """Part a: every method on every data set that it fits."""
    work = pairs(report.quick)
    found: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    workers = 2 if report.quick else min(WORKERS, os.cpu_count() or 1)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    waiting = [pool.submit(compare, *pair, report.device) for pair in work]
    limit = 130 if report.cuda else 900
    try:
        for done in as_completed(waiting, timeout=limit):
            found.append(done.result())
            report.figure("runs", found)
    except TimeoutError:
        pass
    finally:
        for process in list(pool._processes.values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
    report.verdict(len(found) == len(work), f"{len(found)} of {len(work)} runs were compared")
    _judge(report, found)


def _judge(report: Report, found: list[dict[str, Any]]) -> None:
    columns = ("early strict", "early shipped", "shipped", "bfloat16", "early strict weights")
    rows = []
    for entry in sorted(found, key=lambda e: (e["dataset"], e["method"])):
        flags = "".join(
            {True: "=", False: "X", None: "?"}[entry.get(name)] for name in ("again", "resumed")
        )
        draws = "draws" if entry.get("draws_on_device") else ""
        rows.append(
            [entry["dataset"], entry["method"], *(entry.get(c, "-") for c in columns), flags, draws]
        )
    report.say("largest relative deviation of losses from the CPU; '==': same bits again, resumed")
    report.table(["data", "method", *columns, "bits", "random"], rows)
    failed: dict[str, list[str]] = defaultdict(list)
    for entry in found:
        for name, text in entry["failed"].items():
            failed[f"{name}: {text}"].append(f"{entry['method']}/{entry['dataset']}")
    for text, who in sorted(failed.items()):
        report.verdict(False, f"{len(who)} runs ({', '.join(who[:60])}): {text}")
    for name, what in (("again", "the same bits twice"), ("resumed", "the same bits resumed")):
        wrong = [f"{e['method']}/{e['dataset']} ({e.get(name + ' differs')})"
                 for e in found if e.get(name) is False]  # fmt: skip
        report.verdict(not wrong, f"deterministic: {what}; not: {wrong or 'none'}")
    limits = {"early strict": STRICT, "early shipped": SHIPPED, "shipped": TRAINED,
              "bfloat16": HALF}  # fmt: skip
    for name, limit in limits.items():
        ours = [e for e in found if name in e]
        stars = {id(e): "*" if e.get("draws_on_device") else "" for e in ours}
        far = [f"{e['method']}/{e['dataset']} {e[name]:.2g}{stars[id(e)]}"
               for e in ours if not e[name] <= limit]  # fmt: skip
        most = max((e[name] for e in ours if e[name] <= limit), default=0.0)
        report.verdict(
            not [text for text in far if not text.endswith("*")],
            f"{name}: within {limit:g}, the largest {most:.2g}; beyond (* draws on the device): "
            f"{far or 'none'}",
        )


def _begin() -> None:
    end_with_parent()
    _quiet()


def _quiet() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)


def _relative(name: str) -> str:
    return name.removeprefix(f"{ROOT}/")


class Waits:
    """Notes where the host waits for the device."""

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda
        self.places: Counter[str] = Counter()

    @contextmanager
    def noted(self) -> Iterator[None]:
        before = warnings.showwarning
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = self._note
            if self.cuda:
                torch.cuda.set_sync_debug_mode("warn")
            try:
                yield
            finally:
                if self.cuda:
                    torch.cuda.set_sync_debug_mode("default")
                warnings.showwarning = before

    def _note(self, message: Any, *rest: Any) -> None:
        if "synchroniz" not in str(message):
            return
        frames = [f for f in traceback.extract_stack() if str(ROOT) in f.filename]
        frames = [f for f in frames if "/benchmarks/" not in f.filename]
        if not frames:
            self.places["outside of the project"] += 1
            return
        last = frames[-1]
        caller = next((f for f in reversed(frames[:-1]) if f.filename != last.filename), last)
        line = (last.line or linecache.getline(last.filename, last.lineno or 0)).strip()
        self.places[
            f"{_relative(last.filename)}:{last.lineno} {last.name}: {line}"
            f"  <- {_relative(caller.filename)}:{caller.lineno} {caller.name}"
        ] += 1


def waits(report: Report) -> None:
    """Part b: which lines of a training step wait for the device."""
    _quiet()
    places: dict[str, Counter[str]] = defaultdict(Counter)
    who: dict[str, set[str]] = defaultdict(set)
    free: list[str] = []
    timed = 3
    for method, dataset in pairs(report.quick):
        name = f"{method}/{dataset}"
        try:
            noted = _steps_noted(method, dataset, report, timed)
        except Exception as error:
            report.verdict(False, f"{name}: {type(error).__name__}: {str(error)[:200]}")
            continue
        if not noted:
            free.append(name)
        for place, count in noted.items():
            places[place][name] = count
            who[place].add(name)
    report.say(f"{len(free)} of {len(free) + len(set().union(*who.values()))} pairs never wait")
    bad = []
    for place in sorted(places, key=lambda p: -len(who[p])):
        meant = place.startswith(MEANT)
        counts = {name: round(count / timed, 1) for name, count in places[place].items()}
        report.say(f"  {'meant' if meant else 'WAITS'} {place}")
        listed = ", ".join(f"{n} {c:g}" for n, c in sorted(counts.items())[:80])
        report.say(f"        a step, in {len(counts)} pairs: {listed}")
        report.figure(place, counts)
        if not meant:
            bad.append(place)
    for place in bad:
        report.verdict(False, f"waits, {len(who[place])} pairs: {place}")
    if not bad:
        report.verdict(True, "no step waits but for a solver on the host")


def _steps_noted(method: str, dataset: str, report: Report, timed: int) -> Counter[str]:
    run = made_run(method, dataset, report.device)
    noted = Waits(report.cuda)
    for index, stage in enumerate(run.stages):
        if index:
            run.begin_stage(index)
        if stage.halves:
            continue
        steps = first_steps(run, index, 2 + timed)
        next(steps)
        next(steps, None)
        with noted.noted():
            for _ in steps:
                pass
    return noted.places


def weightings(report: Report) -> None:
    """Part c: weightings and ways against the host in float64, and the solver on the device."""
    torch.set_num_threads(min(4, os.cpu_count() or 1))  # beside other parts
    report.attempt("ways", lambda: _ways(report))
    report.attempt("every weighting", lambda: _every_weighting(report))
    report.attempt("solver", lambda: _solver(report))
    if report.cuda:
        report.attempt("graph", lambda: _graph(report))


def _placed(problem: Problem, device: str, kind: torch.dtype) -> Problem:
    found = copy.deepcopy(problem)
    found.trunk.to(device, kind)
    found.heads.to(device, kind)
    found.inputs = found.inputs.to(device, kind)
    found.targets = [target.to(device, kind) for target in found.targets]
    return found


def _step(problem: Problem, weighting: Weighting, way: str) -> tuple[Tensor, Tensor | None, str]:
    """Return the step's gradients on the host, its weights and the way it took."""
    problem.clear()
    torch.manual_seed(5)
    features, losses = problem.forward()
    done = backward(
        losses, weighting, shared=problem.trunk.parameters(), heads=problem.heads.parameters(),
        features=features, gradients=way,
    )  # fmt: skip
    parameters = [*problem.trunk.parameters(), *problem.heads.parameters()]
    rows = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    weights = None if done.weights is None else done.weights.double().cpu()
    return torch.cat([r.double().cpu().flatten() for r in rows]), weights, done.way


def _apart(found: Tensor, expected: Tensor) -> float:
    value = float((found - expected).norm() / expected.norm())
    return value if value == value else float("inf")


def _ways(report: Report) -> None:
    rows, worst = [], {"float64": 0.0, "float32": 0.0}
    names = ("resnet", "mlp-40") if report.quick else (
        "segnet-2", "segnet-3", "resnet", "celeba", "mlp-40")  # fmt: skip
    for name in names:
        torch.manual_seed(0)
        problem = NETWORKS[name](0.06, 8)
        host = _placed(problem, "cpu", torch.float64)
        for way in ("exact", "representation", "matrix_free"):
            expected, weights, taken = _step(host, load("fairgrad", alpha=2.0), way)
            row: list[Any] = [name, problem.tasks, f"{way} ({taken})"]
            for kind in (torch.float64, torch.float32):
                there = _placed(problem, report.device, kind)
                with without_tf32():
                    found, ours, took = _step(there, load("fairgrad", alpha=2.0), way)
                apart = _apart(found, expected)
                assert ours is not None
                assert weights is not None
                label = "float64" if kind == torch.float64 else "float32"
                row += [apart, _apart(ours, weights), took]
                if took == taken and way != "matrix_free":
                    worst[label] = max(worst[label], apart)
            rows.append(row)
            shipped = _placed(problem, report.device, torch.float32)
            row.append(_apart(_step(shipped, load("fairgrad", alpha=2.0), way)[0], expected))
    report.say("relative error of the gradients and weights, against the host in float64")
    report.table(["network", "K", "way", "float64", "weights", "took", "float32", "weights",
                  "took", "float32 as shipped"], rows)  # fmt: skip
    report.verdict(worst["float64"] < 1e-6, f"exact and representation in float64: within "
                   f"{worst['float64']:.2g} of the host (1e-6)")  # fmt: skip
    report.verdict(worst["float32"] < 1e-2, f"exact and representation in float32 without TF32: "
                   f"within {worst['float32']:.2g} (1e-2)")  # fmt: skip


def _every_weighting(report: Report) -> None:
    rows, wrong, random = [], [], ("rlw", "graddrop", "pcgrad")
    torch.manual_seed(0)
    problem = NETWORKS["mlp-11"](0.05, 16)
    for name in sorted(components("core.weighting", Weighting)):
        try:
            ours, theirs = load(name), load(name)
        except Exception as error:
            report.say(f"  {name}: {error}")
            continue
        for weighting in (ours, theirs):
            weighting.bind([f"loss{i}" for i in range(problem.tasks)])
        ours.to(report.device)
        family = "losses" if isinstance(ours, LossWeighting) else (
            "gram" if isinstance(ours, GramWeighting) else "gradients")  # fmt: skip
        there = _placed(problem, report.device, torch.float64)
        host = _placed(problem, "cpu", torch.float64)
        apart = []
        for _ in range(3):  # what is remembered must agree too
            found, expected = _step(there, ours, "exact")[0], _step(host, theirs, "exact")[0]
            apart.append(_apart(found, expected))
        rows.append([name, family, *apart, "draws" if name in random else ""])
        if max(apart) > 1e-6 and name not in random:
            wrong.append(f"{name} {max(apart):.2g}")
    report.table(["weighting", "needs", "step 1", "step 2", "step 3", ""], rows)
    report.verdict(not wrong, f"every weighting in float64 as on the host (1e-6); not: "
                   f"{wrong or 'none'}")  # fmt: skip


def _grams(device: str) -> Iterator[tuple[str, Tensor]]:
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


def _solver(report: Report) -> None:
    worst: dict[float, tuple[float, str]] = {}
    disagree = []
    for alpha in (0.5, 1.0, 2.0, 5.0):
        for name, gram in _grams(report.device):
            host = alpha_fair(gram.cpu(), alpha)
            there = alpha_fair_on_device(gram, alpha)
            apart = _apart(there.weights.cpu(), host.weights)
            worst[alpha] = max(worst.get(alpha, (0.0, "")), (apart, name))
            if (int(there.status) > 0) != (host.status != "solved"):
                disagree.append(f"alpha {alpha:g}, {name}: {int(there.status)}, {host.status}")
    for alpha, (apart, name) in worst.items():
        report.verdict(apart < 1e-6, f"alpha_fair_on_device, alpha {alpha:g}: within {apart:.2g} "
                       f"of the host (1e-6), at {name}")  # fmt: skip
    report.say(f"  solved by one and not by the other: {disagree or 'none'}")


def _graph(report: Report) -> None:
    """Replay a captured solver with new matrices, and time it against the host's."""
    rows, worst = [], 0.0
    for tasks in (2, 3, 11, 40):
        grams = [gram for name, gram in _grams("cuda") if name.startswith(f"K {tasks} ")]
        place = grams[0].clone()
        weighting = load("fairgrad", alpha=2.0).cuda()
        assert isinstance(weighting, GramWeighting)
        alpha_fair_on_device(place, 2.0)  # libraries make their handles outside of a graph
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = weighting.weights(place)
        for gram in grams:
            place.copy_(gram)
            graph.replay()
            worst = max(worst, _apart(captured.cpu(), alpha_fair(gram.cpu(), 2.0).weights))
        outside = load("fairgrad", alpha=2.0).cuda()
        assert isinstance(outside, GramWeighting)
        rows.append([
            tasks, _milliseconds(graph.replay, 20),
            _milliseconds(partial(outside.weights, place), 20),
            _milliseconds(partial(alpha_fair_on_device, place, 2.0), 3),
        ])  # fmt: skip
    report.say("milliseconds for the weights of one Gram matrix")
    report.table(["K", "graph replay", "host solver and copies", "on device, no graph"], rows)
    report.verdict(worst < 1e-6, f"the captured solver, replayed with new matrices: within "
                   f"{worst:.2g} of the host (1e-6)")  # fmt: skip


def _milliseconds(work: Callable[[], Any], times: int) -> float:
    work()
    found = []
    for _ in range(times):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return sorted(found)[len(found) // 2] * 1e3


def share_of(share: float, total: int) -> float:
    """Return torch's part of a share, as a trial asks for it."""
    try:
        from tuning.resources import torchs_part
    except ImportError:  # the engine is not installed: the same, in short
        return max(share - 512 * 1024**2 / total, share / 2)
    return torchs_part(share, total)


def caps(report: Report) -> None:
    """Part d: a capped process runs out of memory, its neighbour goes on."""
    if not report.cuda:
        report.say("  a cap needs a GPU; only the splitting of batches is tried")
        _split_batches(report)
        return
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    neighbour = context.Process(target=_neighbour, args=(theirs,), daemon=True)
    neighbour.start()
    mine.recv()
    ours, others = context.Pipe()
    free_before = torch.cuda.mem_get_info()[0]
    capped = context.Process(target=_capped, args=(others, 0.25), daemon=True)
    capped.start()
    report.say(f"  {ours.recv()}")
    total = torch.cuda.mem_get_info()[1]
    found = ours.recv()
    taken = free_before - torch.cuda.mem_get_info()[0]
    mine.send("count")
    before = mine.recv()
    time.sleep(1)
    mine.send("count")
    after = mine.recv()
    ours.send("end")
    report.figure("capped", found)
    report.verdict(found["kind"] == "torch.OutOfMemoryError", f"a share of 0.25 ends with "
                   f"{found['kind']}: {found['text']}")  # fmt: skip
    report.verdict(taken <= 0.25 * total, f"it then holds {taken / 2**30:.2f} GiB of its share of "
                   f"{0.25 * total / 2**30:.2f} (torch reserves {found['reserved'] / 2**30:.2f}, "
                   f"beside it {(taken - found['reserved']) / 2**30:.2f})")  # fmt: skip
    more = after["steps"] - before["steps"]
    report.verdict(after["right"] and more > 0, f"its neighbour goes on: {more} products in a "
                   "second, all right")  # fmt: skip
    report.verdict(found["again"], "after that it can allocate again")
    capped.join(10)
    neighbour.terminate()
    report.attempt("batches are split", lambda: _split_batches(report))


def _capped(pipe: Any, share: float) -> None:
    end_with_parent()
    total = torch.cuda.mem_get_info()[1]
    part = share_of(share, total)
    torch.cuda.set_per_process_memory_fraction(part)
    pipe.send(f"share {share:g} of {total / 2**30:.1f} GiB: torch may take {part:.4f}")
    held: list[Tensor] = []
    kind, text = "nothing", ""
    try:
        while len(held) < 1000:
            held.append(torch.empty(128 * 2**20, dtype=torch.uint8, device="cuda").fill_(1))
    except torch.OutOfMemoryError as error:
        kind, text = "torch.OutOfMemoryError", str(error).split("\n")[0][:300]
    except Exception as error:
        kind, text = type(error).__name__, str(error)[:300]
    product = torch.ones(64, 64, device="cuda")
    found = {"kind": kind, "text": text, "reserved": torch.cuda.memory_reserved(), "again": False}
    try:
        del held[-4:]
        found["again"] = float((product @ product)[0, 0]) == 64.0
    except Exception as error:
        found["text"] = f"{text}; then {type(error).__name__}: {error}"
    torch.cuda.synchronize()
    pipe.send(found)
    pipe.recv()


def _neighbour(pipe: Any) -> None:
    end_with_parent()
    torch.cuda.set_per_process_memory_fraction(share_of(0.25, torch.cuda.mem_get_info()[1]))
    matrix = torch.ones(512, 512, device="cuda")
    pipe.send("ready")
    steps, right = 0, True
    while True:
        steps += 1
        right = right and float((matrix @ matrix).mean()) == 512.0
        if pipe.poll():
            pipe.recv()
            pipe.send({"steps": steps, "right": right})


def _split_batches(report: Report) -> None:
    """Cap the process so that a batch does not fit, and train: the same losses, in parts."""
    _quiet()
    make = partial(made_run, "erm", "made_images", report.device, batch_size=320)
    whole = make()
    expected = whole.round()["losses"]
    if not report.cuda:
        found = make(microbatch=64).round()["losses"]
        report.verdict(deviation(found, expected) < 1e-3, "parts of batches: the same losses")
        return
    peak, total = torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[1]
    del whole
    for part in (0.7, 0.5, 0.35):
        torch.cuda.empty_cache()
        # torch.cuda.set_per_process_memory_fraction counts what torch reserves
        torch.cuda.set_per_process_memory_fraction(part * peak / total)
        run = make()
        try:
            row = run.round()
        except Exception as error:
            report.say(f"  {part:g} of the peak: {type(error).__name__}: {str(error)[:250]}")
            continue
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        apart = deviation(row["losses"], expected)
        split = f"{part:g} of {peak / 2**20:.0f} MiB: parts of {run.microbatch or 'all'}"
        report.say(f"  {split}, losses within {apart:.2g}")
        if run.microbatch:
            report.verdict(apart < 1e-2, f"a batch that does not fit is split ({split}): "
                           f"losses within {apart:.2g} (1e-2)")  # fmt: skip
            return
    report.verdict(False, "no batch was split")


def marked_tests(report: Report) -> None:
    """Part e: run the tests that are marked ``gpu``."""
    marked = [
        path for path in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark.gpu" in path.read_text(encoding="utf-8")
    ]  # fmt: skip
    for path in marked:
        command = [
            sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "-rfEs",
            "-o", "filterwarnings=default", "-o", "minversion=7", "-o", "addopts=", str(path),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        name = path.relative_to(ROOT)
        summary = (done.stdout.strip().splitlines() or ["nothing"])[-1]
        passed = done.returncode == 0 and "passed" in summary
        report.verdict(passed or not report.cuda, f"{name}: {summary}")
        if not passed:
            report.say(done.stdout[-3000:] + done.stderr[-1500:])
