"""Parts g and n: training steps of ViT, BERT, ResNet, SegNet, the CelebA network and QM9's."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.made_data import (
    MadeFaces,
    MadeImages,
    MadeMolecules,
    MadeScenes,
    MadeTexts,
    write_model,
)
from benchmarks.gpu.matrix_peak import find_peak, measure_products
from benchmarks.gpu.report import Report, get_device_name
from benchmarks.gpu.step_shares import make_run, make_steps
from core.objectives.auxiliary import Auxiliary
from core.training.loader import RESIDENT_SHARE, get_text_lengths
from core.training.run import Run
from core.training.steps import Trainer
from datasets.benchmark import Benchmark

LAYOUTS = {torch.contiguous_format: " contiguous", torch.channels_last: " channels-last"}
DRAWN_REPEATS = 8  # of steps whose auxiliary texts make a shape with those of the end task
PRETRAINED_KINDS = ("vit", "bert", "resnet")


@dataclass(frozen=True)
class Case:
    """A model in training.

    Args:
        name: What the table calls it.
        kind: Of model folder, or a model's name.
        method: The method.
        batch: Examples a step.
        make: Returns the data set.
        precision: ``bfloat16`` or ``float32``.
        is_compiled: Whether the model is compiled.
        layout: Of the weights of convolutions; None as the core chooses it.
    """

    name: str
    kind: str
    method: str
    batch: int
    make: Callable[[], Benchmark]
    precision: str
    is_compiled: bool = False
    layout: torch.memory_format | None = None

    @property
    def setting(self) -> str:
        compiled = " compiled" if self.is_compiled else ""
        return f"{self.precision}{compiled}{LAYOUTS[self.layout] if self.layout else ''}"

    @property
    def label(self) -> str:
        return f"{self.name} {self.setting}"


def _list_cases(quick: bool) -> list[Case]:
    texts = 64 if quick else 4000
    photographs = partial(MadeImages, *((48, 48) if quick else (320, 400)))
    pairs, posts = partial(MadeTexts, texts, 128, 38), partial(MadeTexts, texts, 220, 75)
    scenes = partial(MadeScenes, *((8, 48) if quick else (96, 288)))
    faces, molecules = partial(MadeFaces, 64 if quick else 4096), partial(MadeMolecules, texts)
    size, few = (4, 2) if quick else (32, 8)
    half = "float32" if quick else "bfloat16"  # on a CPU, bfloat16 takes many times as long
    segnet, celeba, mpnn = (
        f"{name}{'_small' * quick}" for name in ("segnet_mtan", "celeba_cnn", "mpnn")
    )
    vit = Case("ViT-B/16 384 erm", "vit", "erm", size, photographs, half)
    bert = Case("BERT-base pairs erm", "bert", "erm", size, pairs, half)
    dense = Case("SegNet-MTAN ls", segnet, "ls", few, scenes, half)
    attributes = Case("CelebA-CNN ls", celeba, "ls", 8 * size, faces, half)
    molecule = Case("QM9-MPNN ls", mpnn, "ls", 4 * size, molecules, half)
    resnet = Case("ResNet-50 224 erm", "resnet", "erm", size, photographs, half)
    families = [vit, bert, attributes, molecule, resnet, dense]
    if quick:
        return families
    # The first ones are measured where the time does not suffice for all: each family in each
    # precision, the quick ones first, then other layouts and methods.
    long_texts = Case("BERT-base posts erm", "bert", "erm", size, posts, half)
    compiled = [replace(case, is_compiled=True) for case in families]
    full = [replace(case, precision="float32") for case in families]
    others = [
        *(replace(case, layout=torch.contiguous_format) for case in (resnet, attributes)),
        *(
            replace(case, name=case.name.replace(" ls", " fairgrad"), method="fairgrad")
            for case in (dense, attributes, molecule)
        ),
        long_texts,
        replace(bert, name="BERT-base pairs erm_mt_l1", method="erm_mt_l1"),
        replace(long_texts, name="BERT-base posts erm_mt_l1", method="erm_mt_l1"),
        replace(vit, name="ViT-B/16 384 erm_mt_l1", method="erm_mt_l1"),
        replace(dense, layout=torch.channels_last),
    ]
    return [*families, *compiled[:2], *full[:4], *compiled[2:], *full[4:], *others]


def compile_models(report: Report) -> None:
    """Part n: compile the models that part g times, which then finds their kernels in the cache."""
    late: list[str] = []
    compiled = [c for c in _list_cases(False) if c.is_compiled]
    if report.quick:  # compilation takes a minute on a CPU
        compiled = _list_cases(True)[1:2]
    for case in compiled:
        if report.seconds_left < 0:
            late.append(case.label)
            continue
        report.attempt(case.label, partial(_compile_case, case, report))
    if late:
        report.add_unfinished(f"no time for {', '.join(late)}")


def _compile_case(case: Case, report: Report) -> None:
    """Take a step with each of the first two shapes of batches: the second makes shapes dynamic."""
    known = case.kind in PRETRAINED_KINDS
    model = write_model(case.kind, report.quick, report.folder) if known else case.kind
    run = make_run(
        case.make(), case.method, model, report.is_cuda, case.precision, case.batch,
        compile=case.is_compiled,
    )  # fmt: skip
    start = time.perf_counter()
    trainer, parts = make_steps(run, case.batch, 2)
    for rows, batch in run.context.loader.load_batches("train", parts):
        trainer.take_step(rows, batch)
    trainer.mean_losses()  # waits for the device
    took = time.perf_counter() - start
    report.add_figure(f"{case.label}, first steps", took)
    report.print_line(f"  {case.label}: {took:.1f} s for the first two steps")


def time_models(report: Report) -> None:
    """Part g: training steps of real models."""
    head = [
        "model",
        "batch",
        "precision",
        "ms a step",
        "spread",
        "examples/s",
        "tokens/s",
        "TFLOP/s",
        "of bf16 peak",
        "GiB",
    ]
    rows: list[list[Any]] = []
    late: list[str] = []
    start = time.perf_counter()
    folders = {kind: write_model(kind, report.quick, report.folder) for kind in PRETRAINED_KINDS}
    report.print_line(f"  models written: {time.perf_counter() - start:.1f} s")
    made: dict[Callable[[], Benchmark], Benchmark] = {}
    operations: dict[str, float] = {}  # of a step, by the case's name
    peak = _find_peak(report)
    for case in _list_cases(report.quick):
        if report.seconds_left < 0:
            late.append(case.label)
            continue

        def measure(case: Case = case) -> None:
            if case.make not in made:
                made[case.make] = case.make()
            model = folders.get(case.kind, case.kind)
            row = _measure_case(case, made[case.make], model, report, operations, peak)
            rows.append(row)
            report.print_line(f"  {row}")
            report.add_figure(case.label, dict(zip(head, row, strict=True)))

        report.attempt(case.label, measure)
    report.print_table(head, rows)
    if late:
        report.add_unfinished(f"no time for {', '.join(late)}")
    _judge_steps(report, rows)


def _find_peak(report: Report) -> float:
    """Return the operations a second that shares are of: the data sheet's, or else as measured."""
    measured, sheet = measure_products(report), find_peak(get_device_name(report.device))
    report.add_figure("operations a second of a matrix product", measured)
    told = f"{sheet / 1e12:.0f} by the data sheet" if sheet else "no data sheet is known here"
    report.print_line(f"  a large matrix product: {measured / 1e12:.3g} TFLOP/s; peak: {told}")
    return sheet or measured


def _judge_steps(report: Report, rows: list[list[Any]]) -> None:
    """Compare with the peak, and the memory with the share that the data may take."""
    best: dict[str, list[Any]] = {}
    for row in rows:
        is_setting = row[2] in ("bfloat16", "bfloat16 compiled")
        if is_setting and row[0].startswith(("ViT", "BERT")):
            best[row[0]] = max(best.get(row[0], row), row, key=lambda row: float(row[8]))
    for name, row in best.items():
        text = f"{name} {row[2]}: {row[8]:.0%} of the bfloat16 peak (35%)"
        report.add_verdict(row[8] >= 0.35, text, "fast")
    took = {(row[0], row[2]): float(row[3]) for row in rows}
    for (name, setting), value in took.items():
        for layout in LAYOUTS.values():
            default = took.get((name, setting.removesuffix(layout)), 0.0)
            if setting.endswith(layout) and default:
                text = f"{name}: {default:.1f} ms a step, {value:.1f} with convolutions{layout}"
                report.add_verdict(default <= 1.05 * value, text, "fast")
    if report.is_cuda and rows:
        most = max(rows, key=lambda row: float(row[9]))
        share = most[9] * 2**30 / torch.cuda.mem_get_info()[1]
        report.add_verdict(
            share <= 1 - RESIDENT_SHARE,
            f"{most[0]} {most[2]} takes {share:.0%} of the memory, the most of all; resident data "
            f"may take {RESIDENT_SHARE:.0%}",
        )


def _measure_case(
    case: Case, benchmark: Benchmark, model: str, report: Report, operations: dict[str, float],
    peak: float,
) -> list[Any]:  # fmt: skip
    """Return the row of a case."""
    run = make_run(
        benchmark, case.method, model, report.is_cuda, case.precision, case.batch,
        compile=case.is_compiled,
    )  # fmt: skip
    if case.layout is not None:
        for parameter in run.model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=case.layout)
    lengths = get_text_lengths(run.context.train)
    count = 8 if lengths is None else 16
    trainer, parts = make_steps(run, case.batch, 2 if report.quick else count)
    if report.is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    _warm_up(run, trainer, parts)
    if case.name not in operations and not case.is_compiled:
        counted = parts[:1] if lengths is None else parts
        with FlopCounterMode(display=False) as counter, mock.patch.object(trainer, "_graphs", None):
            _take_steps(run, trainer, counted)
        operations[case.name] = float(counter.get_total_flops()) / len(counted)
    done = operations.get(case.name, float("nan"))
    timed = _time_steps(run, trainer, parts, report, done, peak)
    return [case.name, case.batch, case.setting, *timed]


def _warm_up(run: Run, trainer: Trainer, parts: list[Tensor]) -> None:
    """Take each shape twice: the second time, its kernels are captured."""
    if get_text_lengths(run.context.train) is None:
        _take_steps(run, trainer, parts[:4])
        return
    is_drawn = any(isinstance(objective, Auxiliary) for objective in trainer.active)
    _take_steps(run, trainer, parts * (DRAWN_REPEATS if is_drawn else 2))


def _take_steps(run: Run, trainer: Trainer, parts: list[Tensor]) -> None:
    for rows, batch in run.context.loader.load_batches("train", parts):
        trainer.take_step(rows, batch)


def _time_steps(
    run: Run, trainer: Trainer, parts: list[Tensor], report: Report, operations: float, peak: float
) -> list[Any]:
    """Return the columns from milliseconds to memory."""
    marks = [_mark_time(report.is_cuda)]
    for rows, batch in run.context.loader.load_batches("train", parts):
        trainer.take_step(rows, batch)
        marks.append(_mark_time(report.is_cuda))
    if not all(value == value for value in trainer.mean_losses().values()):
        raise ArithmeticError("a loss is not finite")
    took = _list_durations(marks, report.is_cuda)
    mean = sum(took) / len(took)
    lengths = get_text_lengths(run.context.train)
    tokens = 0 if lengths is None else int(lengths[torch.cat(parts)].sum())
    # Reserved, because what a graph holds is not counted as allocated.
    memory = torch.cuda.max_memory_reserved() / 2**30 if report.is_cuda else 0.0
    return [
        statistics.median(took) * 1e3,
        f"{min(took) * 1e3:.1f}-{max(took) * 1e3:.1f}",
        sum(len(part) for part in parts) / sum(took),
        tokens / sum(took) if tokens else "-",
        operations / mean / 1e12,
        operations / mean / peak,
        memory,
    ]


def _mark_time(cuda: bool) -> Any:
    if not cuda:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _list_durations(marks: list[Any], cuda: bool) -> list[float]:
    if cuda:
        torch.cuda.synchronize()
    steps = pairwise(marks)
    return [a.elapsed_time(b) / 1e3 if cuda else b - a for a, b in steps]
