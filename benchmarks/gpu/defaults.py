"""Part m: settings that the core chooses for GPUs, each against its alternative."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from benchmarks.gpu.made_data import MadeImages, MadeTexts, write_model
from benchmarks.gpu.report import Report
from benchmarks.gpu.step_shares import make_run, make_steps
from core.batch import Batch
from core.training import evaluation
from core.training import loader as data
from core.training.loader import Loader
from core.training.run import Run
from datasets.benchmark import Benchmark

LoadBatches = Callable[[list[Tensor]], Iterator[tuple[Tensor, Batch]]]
MARGIN = 1.05  # a default may take this many times as long as its alternative
# Larger batches take less time and more memory, and evaluation cannot split them.
EVALUATION_MARGIN = 1.5
EVALUATION_FACTORS = (1, 8, 32)


def compare_defaults(report: Report) -> None:
    """Part m: graphs and copies of data on the host, optimizers, evaluation batches."""
    images = MadeImages(*((16, 32) if report.quick else (320, 400)))
    resnet, bert = (write_model(kind, report.quick, report.folder) for kind in ("resnet", "bert"))
    report.attempt("store", lambda: _compare_store(report, images, resnet))
    report.attempt("optimizers", lambda: _compare_optimizers(report, images, resnet, bert))
    report.attempt("evaluation", lambda: _compare_evaluation(report, images, resnet, bert))


def _judge(
    report: Report,
    name: str,
    default: str,
    found: dict[str, float],
    unit: str,
    margin: float = MARGIN,
) -> None:
    """Print figures of which the lowest is the best, and whether the default is near that one."""
    report.add_figure(name, found)
    best = min(found, key=found.__getitem__)
    listed = ", ".join(f"{key} {value:.3g}" for key, value in found.items())
    good = found[default] <= margin * found[best]
    report.add_verdict(
        good or not report.is_cuda, f"{name}, {unit}: {listed}; the default is {default}", "fast"
    )


def _make_run(report: Report, benchmark: Benchmark, model: str) -> tuple[Run, int]:
    size, precision = (4, "float32") if report.quick else (32, "bfloat16")
    return make_run(benchmark, "erm", model, report.is_cuda, precision, size), size


def _time(work: Callable[[], Any], report: Report, repeats: int) -> float:
    """Return the least milliseconds that a piece of work takes, all its kernels too."""
    found = []
    for _ in range(repeats):
        if report.is_cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if report.is_cuda:
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found) * 1e3


def _time_steps(
    run: Run, size: int, report: Report, load: LoadBatches, has_graphs: bool = True
) -> float:
    """Return the milliseconds of a step with the batches of a loader."""
    count = 1 if report.quick else 10
    trainer, parts = make_steps(run, size, count)
    if not has_graphs:
        trainer._graphs = None

    def take_steps() -> None:
        for rows, batch in load(parts):
            trainer.take_step(rows, batch)

    take_steps()  # kernels are chosen, and captured
    return _time(take_steps, report, 2) / count


def _compare_store(report: Report, images: MadeImages, resnet: str) -> None:
    """Time steps of which the batches come from the host."""
    run, size = _make_run(report, images, resnet)
    host = Loader(run.benchmark, run.context.device, resident=False)
    load = partial(host.load_batches, "train")

    def load_pageable(parts: list[Tensor]) -> Iterator[tuple[Tensor, Batch]]:
        with mock.patch.object(data, "copy_to_device", Tensor.to):
            for rows in parts:
                yield rows, host.load_batch("train", rows)

    resident = partial(run.context.loader.load_batches, "train")
    took = _time_steps(run, size, report, resident)
    report.print_line(f"  ResNet-50 with resident data, graphs: {took:.3g} ms a step")
    found = {"own stream": _time_steps(run, size, report, load)}
    with mock.patch.object(data, "get_copy_stream", return_value=None):
        found["stream of the steps"] = _time_steps(run, size, report, load)
    found["not ahead, not pinned"] = _time_steps(run, size, report, load_pageable)
    _judge(report, "batches of ResNet-50 from the host", "own stream", found, "ms a step, graphs")
    graphs = {
        "with graphs": found["own stream"],
        "without graphs": _time_steps(run, size, report, load, has_graphs=False),
    }
    _judge(report, "steps of ResNet-50 from the host", "with graphs", graphs, "ms a step")


def _compare_optimizers(report: Report, images: MadeImages, resnet: str, bert: str) -> None:
    texts = MadeTexts(64, 128, 38)
    cases: list[tuple[str, Benchmark, str, Callable[..., Optimizer], str]] = [
        ("SGD of ResNet-50", images, resnet, partial(SGD, lr=1e-6, momentum=0.9), "foreach"),
        ("AdamW of BERT-base", texts, bert, partial(AdamW, lr=1e-6), "fused"),
    ]
    for name, benchmark, model, make, default in cases:
        run, _ = _make_run(report, benchmark, model)
        parameters = list(run.model.parameters())
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        found = {}
        for way in ("fused", "foreach"):
            optimizer = make(parameters, **{way: True})
            optimizer.step()
            found[way] = _time(optimizer.step, report, 3)
        _judge(report, name, default, found, "ms a step")


def _compare_evaluation(report: Report, images: MadeImages, resnet: str, bert: str) -> None:
    texts = MadeTexts(64 if report.quick else 4000, 128, 38)
    cases: list[tuple[str, Benchmark, str]] = [
        ("ResNet-50", images, resnet),
        ("BERT-base", texts, bert),
    ]
    for name, benchmark, model in cases:
        run, _ = _make_run(report, benchmark, model)
        found, memory = {}, []
        for factor in EVALUATION_FACTORS:
            with mock.patch.object(evaluation, "EVALUATION_FACTOR", factor):
                run.evaluate_split("train", max_batches=1)
                if report.is_cuda:
                    torch.cuda.reset_peak_memory_stats()
                evaluate = partial(run.evaluate_split, "train")
                found[f"{factor} x"] = _time(evaluate, report, 1 if report.quick else 2)
            if report.is_cuda:
                memory.append(f"{torch.cuda.max_memory_allocated() / 2**30:.1f}")
        report.print_line(f"  evaluation of {name}: peaks of {', '.join(memory) or 'no'} GiB")
        what = f"evaluation batches of {name}"
        _judge(report, what, "8 x", found, "ms", EVALUATION_MARGIN)
