"""The parts of :mod:`benchmarks.gpu` that say how fast the training core is on a GPU."""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import datasets
from benchmarks.gpu_data import MadeImages, MadeScenes, MadeTexts, folder
from benchmarks.gpu_report import Report, end_with_parent
from benchmarks.step_networks import NETWORKS, Problem
from benchmarks.weighting_step import peak, seconds, ways
from core import method as methods
from core.environment import detect
from core.key import make_key
from core.run import Run
from core.usage import usage
from datasets.benchmark import Benchmark
from datasets.stores import TextBatch

PEAK = 989e12  # dense bfloat16 operations a second of an H100 or H200, by its data sheet
OURS = ("plain", "exact", "representation", "matrix_free", "auto")


def weighted_steps(report: Report) -> None:
    """Part f: what a weighted step costs, relative to a plain one."""
    head = ["network", "K", "plain ms", "forward + K backward",
            *(f"{way} x" for way in OURS[1:]), "memory of exact x", "matrix-free"]  # fmt: skip
    rows: list[list[Any]] = []
    late = []
    names = ("segnet-2", "segnet-3", "resnet", "celeba", "mlp-11", "mlp-40")
    for name in names[4:5] if report.quick else names:
        torch.manual_seed(0)
        width, batch = (0.06, 16) if report.quick else (1.0, 64)
        problem = NETWORKS[name](width, batch).to(report.device)
        row, bound = _network(problem, 2 if report.quick else 15)
        rows.append([name, problem.tasks, *row])
        if row[2] > 1.05 * bound:
            late.append(f"{name} {row[2]:.2f} against {bound:.2f}")
        report.figure(name, dict(zip(head[1:], rows[-1][1:], strict=True)))
        del problem
    report.say("float32; times are multiples of a plain step's, medians")
    report.table(head, rows)
    report.verdict(not late, f"exact steps take at most forward + K backward; not: "
                   f"{late or 'none'}", "fast")  # fmt: skip


def _network(problem: Problem, rounds: int) -> tuple[list[Any], float]:
    steps = {name: step for name, step in ways(problem).items() if name in OURS}
    times: dict[str, list[float]] = {name: [] for name in steps}
    remark = ""
    for warm in range(2):
        for step in steps.values():
            seconds(problem, step)
        del warm
    for _ in range(rounds):
        for name, step in steps.items():
            took, said = seconds(problem, step)
            times[name].append(took)
            remark = said if name == "matrix_free" else remark
    middle = {name: statistics.median(found) for name, found in times.items()}
    forward, back = _halves(problem, rounds)
    bound = (forward + problem.tasks * back) / (forward + back)
    memory = peak(problem, steps["exact"]) / peak(problem, steps["plain"])
    plain = middle["plain"]
    ratios = [middle[name] / plain for name in OURS[1:]]
    return [plain * 1e3, bound, *ratios, memory, remark], bound


def _halves(problem: Problem, rounds: int) -> tuple[float, float]:
    """Return the seconds of a forward and of a backward pass, each waited for."""

    def wait() -> float:
        if problem.inputs.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    found = []
    for _ in range(rounds):
        problem.clear()
        start = wait()
        loss = torch.stack(problem.forward()[1]).sum()
        between = wait()
        loss.backward()
        found.append((between - start, wait() - between))
    return statistics.median(f for f, _ in found), statistics.median(b for _, b in found)


@dataclass(frozen=True)
class Case:
    """A model in training.

    Args:
        name: What the table calls it.
        kind: Of model folder, or a model's name.
        method: The method.
        batch: Examples a step.
        make: Returns the data set.
        settings: Values of knobs.
        precisions: Which of them.
        compiled: Whether it is measured compiled too.
        cudnn: Whether cuDNN's attention may be used.
    """

    name: str
    kind: str
    method: str
    batch: int
    make: Callable[[], Benchmark]
    settings: Mapping[str, Any]
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    compiled: bool = False
    cudnn: bool = True


def _cases(quick: bool) -> list[Case]:
    texts = 64 if quick else 4000
    photographs = partial(MadeImages, *((48, 48) if quick else (1200, 400)))
    pairs, posts = partial(MadeTexts, texts, 128, 38), partial(MadeTexts, texts, 220, 75)
    scenes = partial(MadeScenes, *((8, 48) if quick else (96, 288)))
    size = 4 if quick else 32
    both = ("float32", "bfloat16")
    return [
        Case("ViT-B/16 384 erm", "vit", "erm", size, photographs, {}, both, True),
        Case("ViT-B/16 384 erm_mt_l1", "vit", "erm_mt_l1", size, photographs, {}, ("bfloat16",)),
        Case("BERT-base pairs erm", "bert", "erm", size, pairs, {}, both, True),
        Case("BERT-base posts erm", "bert", "erm", size, posts, {}, ("bfloat16",)),
        Case(
            "BERT-base posts erm, no cuDNN attention",
            "bert",
            "erm",
            size,
            posts,
            {},
            ("bfloat16",),
            False,
            False,
        ),
        Case("BERT-base posts erm_mt_l1", "bert", "erm_mt_l1", size, posts, {}, ("bfloat16",)),
        Case("ResNet-50 224 erm", "resnet", "erm", size, photographs, {}, both),
        Case("SegNet-MTAN ls", "segnet_mtan", "ls", 2 if quick else 8, scenes, {}, both),
        Case("SegNet-MTAN fairgrad", "segnet_mtan", "fairgrad", 2 if quick else 8, scenes, {}),
    ]


def models(report: Report) -> None:
    """Part g: training steps of real models."""
    head = ["model", "batch", "precision", "ms a step", "spread", "examples/s", "tokens/s",
            "TFLOP/s", "of bf16 peak", "GiB"]  # fmt: skip
    rows: list[list[Any]] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        folders = {kind: folder(kind, report.quick, where) for kind in ("vit", "bert", "resnet")}
        report.say(f"  models written: {time.perf_counter() - start:.1f} s")
        work = [(case, p, False) for case in _cases(report.quick) for p in case.precisions]
        if report.cuda:
            work += [(c, "bfloat16", True) for c in _cases(report.quick) if c.compiled]
        made: dict[str, Benchmark] = {}
        for case, precision, compiled in work:
            if time.perf_counter() - start > 95:
                report.say(f"  no time left for {case.name}")
                continue
            label = f"{case.name} {precision}{' compiled' if compiled else ''}"

            def one(case: Case = case, precision: str = precision, compiled: bool = compiled,
                    label: str = label) -> None:  # fmt: skip
                key = case.name.split(" ")[0] + str("posts" in case.name)
                benchmark = made.setdefault(key, case.make())
                model = folders.get(case.kind, case.kind)
                row = _measured(case, benchmark, model, precision, compiled, report)
                rows.append(row)
                report.say(f"  {row}")
                report.figure(label, dict(zip(head, row, strict=True)))

            report.attempt(label, one)
    report.table(head, rows)
    best = {}
    for row in rows:
        if str(row[2]).startswith("bfloat16") and row[0].startswith(("ViT", "BERT")):
            best[row[0]] = max(best.get(row[0], 0.0), row[8])
    for name, share in best.items():
        report.verdict(share >= 0.3, f"{name}: {share:.0%} of the bfloat16 peak (30%)", "fast")


def _measured(
    case: Case, benchmark: Benchmark, model: str, precision: str, compiled: bool, report: Report
) -> list[Any]:
    environment = detect(report.cuda, 2, False, precision)
    config = {"batch_size": case.batch, "model": model, "compile": compiled, **case.settings}
    recipe = methods.load(case.method)
    torch.backends.cuda.enable_cudnn_sdp(case.cudnn)
    run = Run(make_key(recipe, benchmark, config, 0, environment), benchmark)
    trainer, parts = run.epoch(0, 0)
    warm, timed = (1, 2) if report.quick else (6, 24)
    parts = [part for part in parts if len(part) == case.batch][: warm + timed + 1]
    run.model.train()
    marks: list[Any] = []
    tokens = examples = 0
    operations: list[float] = []
    if report.cuda:
        torch.cuda.reset_peak_memory_stats()
    for number, (rows, batch) in enumerate(run.feed.batches("train", parts)):
        if number == 1 and not compiled:
            with FlopCounterMode(display=False) as counter:
                trainer.step(rows, batch)
            operations.append(float(counter.get_total_flops()))
            continue
        if number == warm:
            marks.append(_mark(report.cuda))
        trainer.step(rows, batch)
        if number >= warm:
            marks.append(_mark(report.cuda))
            examples += len(rows)
            if isinstance(batch.inputs, TextBatch):
                lengths = run.feed.splits["train"].inputs.lengths  # type: ignore[attr-defined]
                tokens += int(lengths[rows].sum())
    if not all(value == value for value in trainer.means().values()):
        raise ArithmeticError("a loss is not finite")
    took = _differences(marks, report.cuda)
    total = sum(took)
    middle = statistics.median(took)
    rate = operations[0] / middle if operations else float("nan")
    memory = torch.cuda.max_memory_allocated() / 2**30 if report.cuda else 0.0
    low, high = min(took) * 1e3, max(took) * 1e3
    return [
        case.name, case.batch, precision + (" compiled" if compiled else ""), middle * 1e3,
        f"{low:.1f}-{high:.1f}", examples / total, tokens / total if tokens else "-",
        rate / 1e12, rate / PEAK, memory,
    ]  # fmt: skip


def _mark(cuda: bool) -> Any:
    if not cuda:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _differences(marks: list[Any], cuda: bool) -> list[float]:
    if cuda:
        torch.cuda.synchronize()
    steps = pairwise(marks)
    return [a.elapsed_time(b) / 1e3 if cuda else b - a for a, b in steps]


# ---- several processes on one GPU


def shared(report: Report) -> None:
    """Part h: trials side by side on one GPU."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    most = 2 if report.quick else 4
    for _ in range(most):
        mine, theirs = context.Pipe()
        process = context.Process(target=_trial, args=(theirs, report.device), daemon=True)
        process.start()
        pipes.append(mine)
        processes.append(process)
    rows = []
    for method, dataset in (("erm", "colored_digits"), ("fairgrad", "two_digits")):
        for pipe in pipes:
            pipe.send((method, dataset))
        taken = [pipe.recv() for pipe in pipes]
        if report.cuda:
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
        report.figure(f"{method}/{dataset}", {"epochs an hour": rates, "busy": busy})
        report.verdict(ratios[-1] > 1.5, f"{most} trials of {method} on {dataset} at once: "
                       f"{ratios[-1]:.2f} times the epochs of one", "fast")  # fmt: skip
    report.table(["trial", "first round s", "busy alone", "epochs/h alone",
                  *(f"{n} at once x" for n in (2, 4)[: most // 2])], rows)  # fmt: skip
    for pipe in pipes:
        pipe.send(None)
    for process in processes:
        process.join(5)


def _trial(pipe: Any, device: str) -> None:
    end_with_parent()
    run: Run | None = None

    def fresh(method: str, dataset: str) -> Run:
        benchmark = datasets.load(dataset)
        environment = detect(device == "cuda", 1)
        key = make_key(methods.load(method), benchmark, {"epochs": 100000}, 0, environment)
        return Run(key, benchmark)

    name = ("", "")
    while (order := pipe.recv()) is not None:
        if isinstance(order, tuple):
            start = time.perf_counter()
            name = order
            run = fresh(*name)
            run.round()
            pipe.send(time.perf_counter() - start)
        elif order == "usage":
            found = usage(fresh(*name))
            text = "not measured" if found.busy is None else f"{found.busy:.2f}"
            pipe.send(f"{text}, {found.memory / 2**20:.0f} MiB, {found.seconds * 1e3:.2f} ms")
        else:
            assert run is not None
            start, rounds = time.perf_counter(), 0
            while time.perf_counter() - start < order:
                run.round()
                rounds += 1
            pipe.send(rounds / (time.perf_counter() - start))
