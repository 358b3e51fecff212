"""Evaluation of a model on a split."""

import math
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Generator, Tensor, nn

from common.errors import UserError
from core.batch import Batch
from core.models.base import Model
from core.stages.base import LastLayerFeatures
from core.training.context import RunContext
from core.training.loader import get_text_lengths, make_batches
from datasets.benchmark import Meter
from datasets.multitask.base import TaskBenchmark

# Evaluation batches are this many times larger than training batches, up to a limit.
EVALUATION_FACTOR = 8
MAX_EVALUATION_BATCH = 1024

# Errors that networks and objectives raise for inputs or outputs of another kind than theirs.
# Networks are torch's, transformers' or a user's own, and share no error class for that.
MODEL_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)


def evaluate_split(
    context: RunContext,
    model: Model,
    split: str,
    batch_averaged: bool = False,
    max_batches: int | None = None,
) -> Meter:
    """Return a meter that has received the model's outputs for a split.

    Where a stage refits on half of the validation split, the other half is evaluated.

    Args:
        context: The run.
        model: The model.
        split: The split's name.
        batch_averaged: As in :meth:`datasets.multitask.base.TaskBenchmark.meter`.
        max_batches: Evaluate the first batches only; None for all.
    """
    benchmark = context.benchmark
    if split == "validation" and context.halves is not None:
        rows = context.halves.selection
    else:
        rows = torch.arange(len(context.loader.splits[split]))
    meter = (
        benchmark.make_meter(split, batch_averaged=True)
        if batch_averaged and isinstance(benchmark, TaskBenchmark)
        else benchmark.make_meter(split)
    )
    model.eval()
    with torch.no_grad():
        for part, batch in islice(_load_batches(context, split, rows), max_batches):
            with context.environment.autocast():
                output = model(context.augmentation.transform_evaluation(batch.inputs, model.image))
            outputs = output.outputs
            if isinstance(outputs, Tensor):
                meter.update(part, outputs.float(), batch.targets)
            else:
                meter.update(part, {n: t.float() for n, t in outputs.items()}, batch.targets)
    return meter


def check_model_fits_data(context: RunContext, model: Model) -> None:
    """Compute two training examples, and refuse a model that cannot.

    Raises:
        UserError: If the model fails, or its outputs do not match the benchmark's targets.
    """
    benchmark = context.benchmark
    where = f"model: received '{context.config.model}', which"
    hint = f"its own model is '{benchmark.training_config.model}'"
    batch = context.loader.load_batch("train", torch.arange(min(2, len(context.train))))
    model.eval()
    try:
        with torch.no_grad():
            found = model(
                context.augmentation.transform_evaluation(batch.inputs, model.image)
            ).outputs
    except MODEL_ERRORS as error:
        if context.device.type == "cuda" and "CUDA" in str(error):  # the device's failure
            return
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{where} cannot take the inputs of data set '{benchmark.name}' ({reason}); {hint}"
        ) from None
    expected = set(benchmark.output_sizes)
    fits = expected == {"y"} if isinstance(found, Tensor) else set(found) == expected
    if not fits or (expected == {"y"} and not isinstance(found, Tensor)):
        raise UserError(
            f"{where} does not have an output for each target of data set '{benchmark.name}'; "
            f"{hint}"
        )


def needs_two_examples(context: RunContext, model: Model) -> bool:
    """Return whether the model cannot train on one example.

    Batch normalization needs two values per channel. Two examples are computed to find out how many
    it gets from each: one in layers after pooling, many in layers of images.

    Raises:
        UserError: If the model cannot take the benchmark's examples.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    values: list[int] = []

    def count_values(layer: nn.modules.batchnorm._BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        values.append(inputs[0].numel() // layer.num_features)

    hooks = [layer.register_forward_pre_hook(count_values) for layer in layers]
    try:
        if layers:
            with torch.compiler.set_stance("force_eager"):
                check_model_fits_data(context, model)
    finally:
        for hook in hooks:
            hook.remove()
    return min(values, default=math.inf) <= min(2, len(context.train))


class LastLayerRefit:
    """The last layer of a model and its inputs on the refitting half of the validation split.

    Args:
        context: The run.
        model: The model.
        generator: Draws the subsets that the layer is fitted to.
    """

    def __init__(self, context: RunContext, model: Model, generator: Generator) -> None:
        self._context = context
        self._model = model
        self.layer: nn.Linear = model.get_last_layer()
        self.generator = generator

    def compute_features(self) -> LastLayerFeatures:
        """Compute the layer's inputs."""
        context, model, inputs = self._context, self._model, []
        split = context.validation
        assert context.halves is not None
        assert split.group is not None
        rows = context.halves.refitting
        hook = self.layer.register_forward_pre_hook(
            lambda _, given: inputs.append(given[0].detach().float().cpu())
        )
        model.eval()
        order = []
        try:
            with torch.no_grad():
                for part, batch in _load_batches(context, "validation", rows):
                    order.append(part)
                    with context.environment.autocast():
                        model(context.augmentation.transform_evaluation(batch.inputs, model.image))
        finally:
            hook.remove()
        back = torch.cat(order).argsort()
        return LastLayerFeatures(torch.cat(inputs)[back], split.y[rows], split.group[rows])


def _load_batches(context: RunContext, split: str, rows: Tensor) -> Iterator[tuple[Tensor, Batch]]:
    size = min(MAX_EVALUATION_BATCH, EVALUATION_FACTOR * max(1, context.config.batch_size))
    parts = make_batches(rows, size, get_text_lengths(context.loader.splits[split]))
    return context.loader.load_batches(split, parts)
