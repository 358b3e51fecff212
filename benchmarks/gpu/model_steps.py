"""Part g: training steps of ViT, BERT, ResNet and SegNet."""

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

from benchmarks.gpu.made_data import MadeImages, MadeScenes, MadeTexts, write_model
from benchmarks.gpu.report import Report
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.context import EpochPosition
from core.training.loader import get_text_lengths
from core.training.run import Run
from datasets.benchmark import Benchmark
from datasets.storage.ragged_arrays import TextBatch

PEAK_FLOPS = 989e12  # dense bfloat16 operations a second of an H100 or H200, by its data sheet


@dataclass(frozen=True)
class Case:
    """A model in training.

    Args:
        name: What the table calls it.
        kind: Of model folder, or a model's name.
        method: The method.
        batch: Examples a step.
        make: Returns the data set.
        settings: Values of hyperparameters.
        precisions: Which of them.
        compiled: Whether it is measured compiled too.
        cudnn: Whether cuDNN's attention may be used; None leaves it as it is.
    """

    name: str
    kind: str
    method: str
    batch: int
    make: Callable[[], Benchmark]
    settings: Mapping[str, Any]
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    compiled: bool = False
    cudnn: bool | None = None


def _list_cases(quick: bool) -> list[Case]:
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
            "BERT-base posts erm, cuDNN attention",
            "bert",
            "erm",
            size,
            posts,
            {},
            precisions=("bfloat16",),
            cudnn=True,
        ),
        Case("BERT-base posts erm_mt_l1", "bert", "erm_mt_l1", size, posts, {}, ("bfloat16",)),
        Case("ResNet-50 224 erm", "resnet", "erm", size, photographs, {}, both),
        Case("SegNet-MTAN ls", "segnet_mtan", "ls", 2 if quick else 8, scenes, {}, both),
        Case("SegNet-MTAN fairgrad", "segnet_mtan", "fairgrad", 2 if quick else 8, scenes, {}),
    ]


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
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        folders = {
            kind: write_model(kind, report.quick, where) for kind in ("vit", "bert", "resnet")
        }
        report.print_line(f"  models written: {time.perf_counter() - start:.1f} s")
        work = [(case, p, False) for case in _list_cases(report.quick) for p in case.precisions]
        if report.is_cuda:
            work += [(c, "bfloat16", True) for c in _list_cases(report.quick) if c.compiled]
        made: dict[str, Benchmark] = {}
        for case, precision, compiled in work:
            if time.perf_counter() - start > 95:
                report.print_line(f"  no time left for {case.name}")
                continue
            label = f"{case.name} {precision}{' compiled' if compiled else ''}"

            def measure(
                case: Case = case,
                precision: str = precision,
                compiled: bool = compiled,
                label: str = label,
            ) -> None:
                key = case.name.split(" ")[0] + str("posts" in case.name)
                benchmark = made.setdefault(key, case.make())
                model = folders.get(case.kind, case.kind)
                row = _measure_case(case, benchmark, model, precision, compiled, report)
                rows.append(row)
                report.print_line(f"  {row}")
                report.add_figure(label, dict(zip(head, row, strict=True)))

            report.attempt(label, measure)
    report.print_table(head, rows)
    best: dict[str, float] = {}
    for row in rows:
        if str(row[2]).startswith("bfloat16") and row[0].startswith(("ViT", "BERT")):
            best[row[0]] = max(best.get(row[0], 0.0), row[8])
    for name, share in best.items():
        report.add_verdict(share >= 0.3, f"{name}: {share:.0%} of the bfloat16 peak (30%)", "fast")


def _measure_case(
    case: Case, benchmark: Benchmark, model: str, precision: str, compiled: bool, report: Report
) -> list[Any]:
    environment = detect_environment(report.is_cuda, 2, False, precision)
    config = {"batch_size": case.batch, "model": model, "compile": compiled, **case.settings}
    resolved = resolve_method(load_method(case.method), benchmark)
    run = Run(resolved.make_key(config, 0, environment), benchmark)
    if case.cudnn is not None:
        torch.backends.cuda.enable_cudnn_sdp(case.cudnn)
    trainer, parts = run.prepare_epoch(EpochPosition(0, 0))
    warm, timed = (1, 2) if report.quick else (6, 24)
    parts = [part for part in parts if len(part) == case.batch][: warm + timed + 1]
    run.model.train()
    marks: list[Any] = []
    tokens = examples = 0
    operations: list[float] = []
    if report.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    for number, (rows, batch) in enumerate(run.context.loader.load_batches("train", parts)):
        if number == 1 and not compiled:
            with FlopCounterMode(display=False) as counter:
                trainer.take_step(rows, batch)
            operations.append(float(counter.get_total_flops()))
            continue
        if number == warm:
            marks.append(_mark_time(report.is_cuda))
        trainer.take_step(rows, batch)
        if number >= warm:
            marks.append(_mark_time(report.is_cuda))
            examples += len(rows)
            if isinstance(batch.inputs, TextBatch):
                lengths = get_text_lengths(run.context.train)
                assert lengths is not None
                tokens += int(lengths[rows].sum())
    if not all(value == value for value in trainer.mean_losses().values()):
        raise ArithmeticError("a loss is not finite")
    took = _list_durations(marks, report.is_cuda)
    total = sum(took)
    middle = statistics.median(took)
    rate = operations[0] / middle if operations else float("nan")
    memory = torch.cuda.max_memory_allocated() / 2**30 if report.is_cuda else 0.0
    low, high = min(took) * 1e3, max(took) * 1e3
    return [
        case.name,
        case.batch,
        precision + (" compiled" if compiled else ""),
        middle * 1e3,
        f"{low:.1f}-{high:.1f}",
        examples / total,
        tokens / total if tokens else "-",
        rate / 1e12,
        rate / PEAK_FLOPS,
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
