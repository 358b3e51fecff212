"""Part i: where the time of a training step goes: on the host, in kernels, waiting for data."""

import io
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from PIL import Image
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.made_data import MadeImages, MadeTexts, write_model
from benchmarks.gpu.report import Report
from benchmarks.gpu.small_runs import load_benchmark
from core import step_graphs
from core.batch import Batch
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.context import EpochPosition
from core.training.loader import Loader
from core.training.profiling import covered_length
from core.training.run import Run
from core.training.steps import Trainer
from datasets.benchmark import Benchmark
from datasets.storage.ragged_arrays import ImageBatch, RaggedImages

PHASES = ("forward", "backward", "clip", "optimizer")
WARM_STEPS = 4
LISTED_KERNELS = 14
MAX_WAIT = 0.03  # share of a step in which it waits for data


def measure_step_shares(report: Report) -> None:
    """Part i: phases of steps of BERT and of a small network, and the wait for data."""
    report.attempt("phases", lambda: _measure_phases(report))
    report.attempt("waits for data", lambda: _measure_data_waits(report))


def make_steps(run: Run, size: int, count: int) -> tuple[Trainer, list[Tensor]]:
    """Return a trainer and the rows of ``count`` whole batches."""
    trainer, parts = run.prepare_epoch(EpochPosition(0, 0))
    whole = [part for part in parts if len(part) == size]
    run.model.train()
    return trainer, [whole[i % len(whole)] for i in range(count)]


def make_run(
    benchmark: Benchmark, method: str, model: str, cuda: bool, precision: str, size: int,
    **settings: Any,
) -> Run:  # fmt: skip
    """Return a run; an empty name of a model takes the data set's."""
    resolved = resolve_method(load_method(method), benchmark)
    config: dict[str, Any] = {"batch_size": size, **settings}
    if model:
        config["model"] = model
    environment = detect_environment(cuda, 1, False, precision)
    return Run(resolved.make_key(config, 0, environment), benchmark)


class PhaseClock:
    """Adds up the host's time in the phases of steps."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def wrap(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*args, **named)
            finally:
                self.seconds[name] += time.perf_counter() - start

        return timed

    @contextmanager
    def watch(self, trainer: Trainer) -> Iterator[None]:
        """Watch a trainer's phases within a ``with`` block."""
        optimizer = trainer.state.optimizer
        with ExitStack() as stack:
            for name, owner, attribute in (
                ("forward", trainer, "_compute_losses"),
                ("backward", torch.Tensor, "backward"),
                ("clip", trainer, "_clip_gradients"),
                ("optimizer", optimizer, "step"),
            ):
                timed = self.wrap(name, getattr(owner, attribute))
                stack.enter_context(mock.patch.object(owner, attribute, timed))
            yield


def measure_phases(run: Run, size: int, steps: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return milliseconds a step: in all, of the host by phase, of all kernels; of each kernel."""
    cuda = run.context.device.type == "cuda"

    def wait() -> float:
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    trainer, parts = make_steps(run, size, WARM_STEPS + 2 * steps)
    # Of each shape, the first step computes as without a graph and the second captures one.
    for rows, batch in run.context.loader.load_batches("train", [*parts, *parts]):
        trainer.take_step(rows, batch)
    clock = PhaseClock()
    took = []
    with clock.watch(trainer):
        batches = run.context.loader.load_batches("train", parts[:steps])
        start = wait()
        while True:
            before = time.perf_counter()
            found = next(batches, None)
            clock.seconds["loading"] += time.perf_counter() - before
            if found is None:
                break
            trainer.take_step(*found)
            took.append(time.perf_counter() - before)
        host = time.perf_counter() - start
        total = wait() - start
    row = {"step": total, "host": host} | {p: clock.seconds[p] for p in ("loading", *PHASES)}
    row = {name: seconds / steps * 1e3 for name, seconds in row.items()}
    row["median host"] = statistics.median(took) * 1e3
    if not cuda:
        return row, {}
    counts, kernels = _count_kernels(run, trainer, parts[:2])
    return row | counts, kernels


def _count_kernels(
    run: Run, trainer: Trainer, parts: list[Tensor]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return kernels, launches and kernels' milliseconds a step; milliseconds of the longest."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for rows, batch in run.context.loader.load_batches("train", parts):
            trainer.take_step(rows, batch)
        torch.cuda.synchronize()
    events = list(profiler.events() or ())
    kernels = [e for e in events if e.device_type.name == "CUDA" and not e.is_user_annotation]
    spans = [(e.time_range.start, e.time_range.end) for e in kernels]
    launches = sum(e.name.startswith(("cudaLaunch", "cuLaunch", "cudaGraphLaunch")) for e in events)
    count = len(parts)
    by_name: defaultdict[str, float] = defaultdict(float)
    for event, (begin, end) in zip(kernels, spans, strict=True):
        by_name[event.name[:100]] += (end - begin) / 1e3 / count
    longest = sorted(by_name, key=by_name.__getitem__, reverse=True)[:LISTED_KERNELS]
    found = {
        "kernels": len(kernels) / count,
        "launches": launches / count,
        "kernels ms": covered_length(spans) / 1e3 / count,
    }
    return found, {name: by_name[name] for name in longest}


def _measure_phases(report: Report) -> None:
    steps = 2 if report.quick else 20
    bert = write_model("bert", report.quick, report.folder)
    texts = MadeTexts(64 if report.quick else 1000, 128, 38)
    digits, two = load_benchmark("colored_digits"), load_benchmark("two_digits")
    cases: list[tuple[str, Benchmark, str, str, str]] = [
        ("BERT-base pairs erm", texts, "erm", bert, "bfloat16"),
        ("colored_digits erm", digits, "erm", "", "bfloat16"),
        ("two_digits fairgrad", two, "fairgrad", "", "bfloat16"),
    ]
    for label, benchmark, method, model, precision in cases:
        size = 4 if report.quick else 32
        for graphs in (0, step_graphs.MAX_GRAPHS):
            with mock.patch.object(step_graphs, "MAX_GRAPHS", graphs):
                run = make_run(benchmark, method, model, report.is_cuda, precision, size)
                found, kernels = measure_phases(run, size, steps)
            full = f"{label} {precision}{', graphs' if graphs else ''}"
            report.add_figure(full, found)
            report.print_line(f"  {full}: {_describe(found)}")
            if "BERT" in label and not graphs and kernels:
                report.add_figure(f"kernels of {full}", kernels)
                report.print_table(["kernel", "ms a step"], list(kernels.items()))
    report.print_line("  milliseconds a step; phases are the host's, which graphs do without")


def _describe(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in found.items())


class DecodedImages:
    """Photographs that are decoded from JPEG for each batch, as without a store.

    Args:
        images: The photographs.
    """

    def __init__(self, images: RaggedImages) -> None:
        self.sizes = images.sizes
        self.files = []
        for number in range(len(images)):
            (image,) = images[torch.tensor([number])].split_images()
            file = io.BytesIO()
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=90)
            self.files.append(file.getvalue())

    def decode_batch(self, rows: Tensor) -> ImageBatch:
        found = []
        for number in rows.tolist():
            with Image.open(io.BytesIO(self.files[number])) as image:
                pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
                found.append(pixels.view(image.height, image.width, 3).permute(2, 0, 1))
        return ImageBatch(found, self.sizes[rows])


def _measure_data_waits(report: Report) -> None:
    rows: list[list[Any]] = []
    size = 4 if report.quick else 32
    photographs = MadeImages(*((48, 48) if report.quick else (320, 400)))
    for kind in ("resnet",) if report.quick else ("vit", "resnet"):
        model = write_model(kind, report.quick, report.folder)
        run = make_run(photographs, "erm", model, report.is_cuda, "bfloat16", size)
        shares = _measure_waits(run, size, 2 if report.quick else 8)
        rows.append([kind, *shares.values()])
        report.add_figure(f"waits for data, {kind}", shares)
        for source in ("resident", "store"):
            text = f"{kind}: {shares[source]:.1%} of a step waits for data, {source}"
            report.add_verdict(shares[source] <= MAX_WAIT, f"{text} (3%)", "fast")
    report.print_table(["model", "ms a step", "resident", "store", "decoded"], rows)


def _measure_waits(run: Run, size: int, steps: int) -> dict[str, float]:
    """Return milliseconds a step, and the share that it waits for data, by their source."""
    loader = run.context.loader
    images = loader.train.inputs
    assert isinstance(images, RaggedImages)
    decoded = DecodedImages(images)
    host = Loader(run.benchmark, run.context.device, resident=False)

    def decode_batches(parts: list[Tensor]) -> Iterator[tuple[Tensor, Batch]]:
        def load(rows: Tensor) -> Batch:
            batch = host.load_batch("train", rows)
            images = decoded.decode_batch(rows)
            return host._move_to_device(batch._replace(inputs=images))

        with ThreadPoolExecutor(1) as pool:
            waiting = [(rows, pool.submit(load, rows)) for rows in parts[:1]]
            for rows in parts[1:]:
                waiting.append((rows, pool.submit(load, rows)))
                first, batch = waiting.pop(0)
                yield first, batch.result()
            for first, batch in waiting:
                yield first, batch.result()

    sources: dict[str, Callable[[list[Tensor]], Iterator[tuple[Tensor, Batch]]]] = {
        "resident": partial(loader.load_batches, "train"),
        "store": partial(host.load_batches, "train"),
        "decoded": decode_batches,
    }
    trainer, parts = make_steps(run, size, steps)
    cuda = run.context.device.type == "cuda"

    def time_steps(batches: Iterator[tuple[Tensor, Batch]]) -> float:
        first = next(batches)  # of an epoch's many it alone is waited for in full
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        trainer.take_step(*first)
        for rows, batch in batches:
            trainer.take_step(rows, batch)
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    time_steps(loader.load_batches("train", parts[:4]))
    ready = list(loader.load_batches("train", parts))
    least = min(time_steps(iter(ready)) for _ in range(2))
    found = {"ms a step": least / steps * 1e3}
    for name, load in sources.items():
        found[name] = max(0.0, 1 - least / min(time_steps(load(parts)) for _ in range(2)))
    return found
