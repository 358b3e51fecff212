"""Load batches of a benchmark's splits onto the device.

:mod:`datasets.storage.padding` pads their texts and images; :func:`make_batches` keeps the padding
of texts short.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.utils import _pytree as pytree

from common.device_copies import copy_to_device, get_copy_stream
from core.batch import Batch
from datasets.benchmark import Benchmark, Split
from datasets.storage.ragged_arrays import ImageBatch, RaggedTexts

# Splits are copied to a GPU if they take at most this share of the memory that the process may use.
RESIDENT_SHARE = 0.3
WINDOW_BATCHES = 50  # batches of texts that are sorted by length together


class FetchedBatch(NamedTuple):
    """A batch that was fetched ahead of its step.

    Args:
        batch: The batch.
        copied: Happens on a GPU when the batch is there; None on a CPU.
    """

    batch: Batch
    copied: torch.cuda.Event | None

    def receive(self) -> Batch:
        """Return the batch; a GPU's current stream waits for it, the host does not."""
        if self.copied is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(self.copied)
            for tensor in _list_tensors(self.batch):
                tensor.record_stream(stream)  # its memory is kept until this stream has read it
        return self.batch


class Loader:
    """Loads batches of a benchmark's examples onto a device.

    Args:
        benchmark: The benchmark.
        device: The device on which models compute.
        joined: Whether the training split holds the validation split too.
        resident: Whether all data are copied to the device at once; None where they fit.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        device: torch.device,
        joined: bool = False,
        resident: bool | None = None,
    ) -> None:
        self.splits = select_splits(benchmark, joined)
        self.train = self.splits["train"]
        self.device = device
        fits = device.type == "cpu" or _fits_on_device(self.splits, device)
        self.resident = fits if resident is None else resident
        self._placed = _copy_to_device(benchmark, device, joined) if self.resident else self.splits

    def get_split(self, name: str) -> Split:
        """Return a split on the device, or on the host where it does not fit."""
        return self._placed[name]

    def load_batch(self, name: str, rows: Tensor) -> Batch:
        """Return the examples ``rows``, ``(b,)`` int64 on the host, of a split."""
        return self._gather_batch(
            name, rows, copy_to_device(rows, self.device) if self.resident else rows
        )

    def _gather_batch(self, name: str, rows: Tensor, index: Tensor) -> Batch:
        """Return examples by their rows on the host, and the same rows on the data's device."""
        split = self._placed[name]
        # Ragged arrays look up rows on the host, and would wait for the device to send them.
        by = index if isinstance(split.inputs, Tensor) else rows
        group = None if split.group is None else split.group[index]
        targets = {task: target[index] for task, target in split.targets.items()}
        batch = Batch(split.inputs[by], targets, group)
        return batch if self.resident else self._move_to_device(batch)

    def _move_to_device(self, batch: Batch) -> Batch:
        def move_tensor(tensor: Any) -> Any:
            if isinstance(tensor, ImageBatch):
                return ImageBatch(move_tensor(tensor.pixels), move_tensor(tensor.sizes))
            return copy_to_device(tensor, self.device) if isinstance(tensor, Tensor) else tensor

        on_device: Batch = pytree.tree_map(move_tensor, batch)
        return on_device

    def load_batches(self, name: str, parts: Iterable[Tensor]) -> Iterator[tuple[Tensor, Batch]]:
        """Yield the rows and the batch of each part.

        If the data are on the device, only the row numbers are copied, once. From the host, one
        batch is fetched ahead, in a thread and on a GPU's copy stream, beside the steps.
        """
        parts = list(parts)
        if self.resident:
            placed = torch.cat(parts).to(self.device).split([len(part) for part in parts])
            for rows, index in zip(parts, placed, strict=True):
                yield rows, self._gather_batch(name, rows, index)
            return
        with ThreadPoolExecutor(1) as pool:
            waiting: list[tuple[Tensor, Future[FetchedBatch]]] = []
            for rows in parts:
                waiting.append((rows, pool.submit(self._fetch_batch, name, rows)))
                if len(waiting) > 1:
                    first, fetched = waiting.pop(0)
                    yield first, fetched.result().receive()
            for first, fetched in waiting:
                yield first, fetched.result().receive()

    def _fetch_batch(self, name: str, rows: Tensor) -> FetchedBatch:
        """Load a batch; a GPU copies it beside its other work."""
        stream = get_copy_stream(self.device)
        if stream is None:
            return FetchedBatch(self.load_batch(name, rows), None)
        with torch.cuda.stream(stream):
            return FetchedBatch(self.load_batch(name, rows), stream.record_event())


class AuxiliarySampler:
    """Draws training examples for auxiliary objectives, each once before any is repeated.

    Texts are drawn first and then sorted by length within windows, as those of the end task are.

    Args:
        loader: Loads the examples.
        generator: Draws their order.
    """

    def __init__(self, loader: Loader, generator: Generator) -> None:
        self.loader = loader
        self.generator = generator
        self.lengths = get_text_lengths(loader.train)
        self.batches: list[Tensor] = []  # rows of the next ones

    def draw_batch(self, count: int) -> Batch:
        """Return the next ``count`` examples."""
        rows = torch.empty(0, dtype=torch.int64)
        while len(rows) < count:
            if not self.batches:
                order = torch.randperm(len(self.loader.train), generator=self.generator)
                self.batches = make_batches(order, count, self.lengths, self.generator)
            rows = torch.cat([rows, self.batches.pop(0)])
        if len(rows) > count:
            self.batches.append(rows[count:])  # last, so that the next ones stay whole
        return self.loader.load_batch("train", rows[:count])


def select_splits(benchmark: Benchmark, joined: bool) -> Mapping[str, Split]:
    """Return a benchmark's splits.

    Args:
        benchmark: The benchmark.
        joined: Whether the training split holds the validation split too.
    """
    train = benchmark.join_training_splits() if joined else None
    return benchmark.splits if train is None else {**benchmark.splits, "train": train}


def make_batches(
    order: Tensor,
    size: int,
    lengths: Tensor | None,
    generator: Generator | None = None,
    joins_single: bool = False,
) -> list[Tensor]:
    """Cut rows into batches.

    Texts are sorted by length within windows of :data:`WINDOW_BATCHES` batches, so that each batch
    needs little padding; the batches then come in random order.

    Args:
        order: Rows in the order in which they were drawn, ``(n,)`` int64.
        size: Examples per batch.
        lengths: Length of each example of the split, ``(examples,)``; None where all are equal.
        generator: Draws the order of the batches of texts; None leaves them sorted.
        joins_single: Whether a last batch of one example joins the batch before.
    """
    batches: list[Tensor] = []
    if lengths is None:
        batches += order.split(size)
    else:
        for window in order.split(WINDOW_BATCHES * size):
            batches += window[lengths[window].argsort(descending=True, stable=True)].split(size)
    if len(batches) > count_batches(len(order), size, joins_single):
        single = batches.pop()
        batches[-1] = torch.cat([batches[-1], single])
    if lengths is None or generator is None:
        return batches
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def count_batches(examples: int, size: int, joins_single: bool) -> int:
    """Return the number of batches that :func:`make_batches` makes."""
    whole, rest = divmod(examples, size)
    return whole if not rest or (rest == 1 and whole and joins_single) else whole + 1


def get_text_lengths(split: Split) -> Tensor | None:
    """Return the lengths of a split's texts, ``(n,)`` int64; None for other inputs."""
    return split.inputs.lengths if isinstance(split.inputs, RaggedTexts) else None


def duplicate_ids(split: Split) -> Tensor | None:
    """Return numbers that are equal for equal texts, ``(n,)`` int64; None for other inputs."""
    return split.inputs.start_offsets if isinstance(split.inputs, RaggedTexts) else None


def _list_tensors(batch: Batch) -> list[Tensor]:
    """Return the tensors of a batch."""
    found: list[Tensor] = []
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, ImageBatch):
            found += [leaf.pixels, leaf.sizes]
        elif isinstance(leaf, Tensor):
            found.append(leaf)
    return found


def _fits_on_device(splits: Mapping[str, Split], device: torch.device) -> bool:
    total = torch.cuda.mem_get_info(device)[1]
    # Of the current device: torch refuses a device without an index here.
    share = torch.cuda.get_per_process_memory_fraction()
    needed = sum(split.nbytes for split in splits.values())
    return needed <= RESIDENT_SHARE * share * total


@lru_cache(maxsize=1)  # one copy per process, shared by all its runs
def _copy_to_device(benchmark: Benchmark, device: torch.device, joined: bool) -> dict[str, Split]:
    return {name: split.to(device) for name, split in select_splits(benchmark, joined).items()}
