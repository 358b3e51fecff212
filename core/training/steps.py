"""The optimization steps of one epoch."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from core.batch import Batch, Output
from core.models.base import Model
from core.objectives.base import Losses, Objective, Step
from core.recipe.splitting import why_unsplittable
from core.stages.base import Stage
from core.step_graphs import StepGradients
from core.training.context import RunContext
from core.training.fixed_losses import LossSplit
from core.training.loader import AuxiliarySampler
from core.training.stage_state import StageState
from core.training.step_inputs import TrainingInputs, draw_ahead, lengthen_batch
from core.training.step_statistics import StepStatistics
from core.weighting import (
    GramWeighting,
    LossWeighting,
    Weighting,
    WeightingError,
    backward,
)
from datasets.multitask.base import TaskBenchmark
from datasets.training_config import TrainingConfig


class BatchTooLarge(RuntimeError):
    """A batch does not fit into the device memory that the run may use."""


class Trainer:
    """Takes the steps of one epoch and averages its losses.

    Args:
        context: The run.
        stage: The stage, which selects the objectives that are descended.
        state: The model and the objects that train it.
        auxiliary: Draws examples for objectives that need their own.
        microbatch: Examples per forward pass, where a batch may be split; 0 does not split. It
            falls where a batch does not fit into memory.

    Raises:
        UserError: If the training config splits batches that cannot be split.
    """

    def __init__(
        self,
        context: RunContext,
        stage: Stage,
        state: StageState,
        auxiliary: AuxiliarySampler,
        microbatch: int,
    ) -> None:
        self.context = context
        self.state = state
        self.auxiliary = auxiliary
        self.microbatch = microbatch
        used = [stage.uses_objective(objective) for objective in context.objectives]
        self.active = [o for o, u in zip(context.objectives, used, strict=True) if u]
        self.active.sort(key=lambda objective: objective.is_computed_last)
        self._counts = [len(o.name_losses(context.benchmark)) for o in context.objectives]
        self._used = torch.tensor(
            [u for count, u in zip(self._counts, used, strict=True) for _ in range(count)]
        )
        device = context.device
        self._split = LossSplit(context.losses.names, context.losses.fixed_weights, device)
        self.tasks = len(context.losses.covered)
        self.statistics = StepStatistics(context.losses.covered, device)
        benchmark = context.benchmark
        self.meter = benchmark.make_step_meter() if isinstance(benchmark, TaskBenchmark) else None
        self._totals = torch.zeros(len(context.losses.names), dtype=torch.float64, device=device)
        self._seen = torch.zeros_like(self._totals)
        shares_head = any(objective.shares_head for objective in self.active)
        modules = () if shares_head else state.model.get_task_heads().values()
        self.heads = [p for module in modules for p in module.parameters()]
        of_heads = {id(p) for p in self.heads}
        self.shared = [p for p in state.model.parameters() if id(p) not in of_heads]
        self._unsplittable = _why_unsplittable(self.active, state.weighting, state.model)
        if self._unsplittable:
            if 0 < context.config.microbatch < context.config.batch_size:
                raise UserError(
                    f"microbatch: received {context.config.microbatch}, expected 0: batches cannot "
                    f"be split: {self._unsplittable}"
                )
            self.microbatch = 0
        self._graphs = state.graphs if self._has_fixed_kernels() else None

    def mean_losses(self) -> dict[str, float]:
        """Return the mean of each loss over the examples seen: the epoch's only transfer."""
        means = (self._totals / self._seen.clamp(min=1)).tolist()
        named = zip(self.context.losses.names, means, self._used.tolist(), strict=True)
        return {name: mean for name, mean, used in named if used}

    def summarize_steps(self) -> tuple[dict[str, dict[str, float]] | None, dict[str, Any] | None]:
        """Return the weights of the stage's losses, and the gradients' conflicts, of the epoch."""
        weights, conflicts = self.statistics.summarize()
        named = zip(self.context.losses.names, self._used.tolist(), strict=True)
        used = {name for name, is_used in named if is_used}
        kept = {name: found for name, found in (weights or {}).items() if name in used}
        return kept or None, conflicts

    def take_step(self, rows: Tensor, batch: Batch) -> None:
        """Take one step.

        Args:
            rows: The training rows of the batch, ``(b,)`` int64 on the host.
            batch: The batch.

        Raises:
            BatchTooLarge: If the batch is too large for the device and cannot be split.
        """
        context, state = self.context, self.state
        batch = self._pad_texts(context.augmentation.transform_training(batch, state.model.image))
        found = self._compute_gradients(rows, batch)
        self._record_step(rows, batch, found)
        state.optimizer.step()
        state.step_batch_schedule()
        if state.weighting.needs_losses_after_step:
            with torch.no_grad():
                again = self._join_covered(self._compute_losses(TrainingInputs(batch, {}))[0])
                state.weighting.after_step(state.weighting.transform_losses(again))
        self._totals += found.losses * found.counts
        self._seen += found.counts

    def _compute_gradients(self, rows: Tensor, batch: Batch) -> StepGradients:
        """Compute the step's gradients, in parts where they do not fit into memory."""
        compute = partial(self._accumulate_gradients, rows)
        inputs: TrainingInputs | None = None
        while True:
            try:
                if self._graphs is not None and not self.microbatch:
                    inputs = inputs or self._draw_ahead(batch)
                    return self._graphs.compute_gradients(inputs, compute)
                return compute(inputs or TrainingInputs(batch, {}))
            except torch.OutOfMemoryError as error:
                if self._graphs is not None and self._graphs.free():
                    continue  # their memory may have been enough
                self._halve_microbatch(batch.size, error)

    def _draw_ahead(self, batch: Batch) -> TrainingInputs:
        """Draw on the host, before a graph, all that the step's objectives draw."""
        lengths = None if self.context.config.pad_to else self.auxiliary.lengths
        longest = 0 if lengths is None else int(lengths.max())
        return draw_ahead(self.active, self.state.model, batch, self._draw_auxiliary, longest)

    def _draw_auxiliary(self, count: int) -> Batch:
        """Draw the next training examples of auxiliary objectives."""
        return self._pad_texts(self.auxiliary.draw_batch(count))

    def _accumulate_gradients(self, rows: Tensor, inputs: TrainingInputs) -> StepGradients:
        """Compute and clip the step's gradients."""
        self.state.optimizer.zero_grad(set_to_none=True)
        found = self._accumulate_losses(rows, inputs)
        self._multiply_weighted(self.tasks)
        self._clip_gradients()
        return found

    def _accumulate_losses(self, rows: Tensor, inputs: TrainingInputs) -> StepGradients:
        """Accumulate the gradients of the losses."""
        weighting, config = self.state.weighting, self.context.config
        if self.microbatch and self.microbatch < inputs.batch.size:
            return self._accumulate_microbatches(inputs.batch)
        values, counts, output = self._compute_losses(inputs)
        detached = torch.cat([value.detach().reshape(-1) for value in values])
        predictions = None if self.meter is None else _detach_predictions(output)
        if isinstance(weighting, LossWeighting):
            objective, weights = self._compute_objective(values, weighting)
            objective.backward()
            return StepGradients(
                detached, counts, weights[0] if weights else None, predictions=predictions
            )
        covered, fixed = self._split.select_covered(values), self._split.sum_fixed(values)
        if fixed is not None and fixed.requires_grad:
            fixed.backward(retain_graph=True)
            self._multiply_weighted(1 / self.tasks)  # only the weighted gradients are multiplied
        if fixed is not None and not any(value.requires_grad for value in covered):
            return StepGradients(detached, counts)
        present = self._find_present(rows)
        try:
            result = backward(
                covered,
                weighting,
                shared=self.shared,
                heads=self.heads,
                features=None if output is None else output.features,
                present=present,
                strategy=config.gradients,
                weighted_heads=config.weighted_heads,
            )
        except WeightingError as error:  # other errors are not the user's
            raise UserError(str(error)) from error
        # The matrix of a matrix-free step is a model of the inner products.
        gram = None if result.strategy == "matrix_free" else result.gram
        return StepGradients(detached, counts, result.weights, gram, present, predictions)

    def _record_step(self, rows: Tensor, batch: Batch, found: StepGradients) -> None:
        """Take a step's weights, gradients and predictions into the epoch's statistics."""
        self.statistics.add_step(found.weights, found.gram, found.present)
        if self.meter is not None and found.predictions is not None:
            self.meter.update(rows, found.predictions, batch.targets)

    def _accumulate_microbatches(self, batch: Batch) -> StepGradients:
        """Accumulate the gradients of parts of a batch, each weighted by its share."""
        weighting, device = self.state.weighting, self.context.device
        total = torch.zeros(len(self.context.losses.names), device=device)
        counts = torch.zeros_like(total)
        weighted: list[Tensor] = []
        for rows in torch.arange(batch.size, device=device).split(self.microbatch):
            part = _select_rows(batch, rows)
            share = part.size / batch.size
            values, count, _ = self._compute_losses(TrainingInputs(part, {}))
            assert isinstance(weighting, LossWeighting)
            objective, weights = self._compute_objective(values, weighting)
            (objective * share).backward()
            weighted += weights
            total += torch.cat([value.detach().reshape(-1) for value in values]) * share
            counts += count
        summed = torch.stack(weighted).sum(dim=0) if weighted else None
        return StepGradients(total, counts, summed)

    def _compute_objective(
        self, values: list[Tensor], weighting: LossWeighting
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the objective of the covered losses plus the weighted sum of the others, ``()``.

        The list receives the covered losses' weights in the backward pass: the derivatives of the
        objective by the transformed losses.

        Args:
            values: The losses, as scalars or vectors.
            weighting: The weighting.
        """
        losses = weighting.transform_losses(self._join_covered(values))
        weights: list[Tensor] = []
        if losses.requires_grad:
            losses.register_hook(weights.append)
        objective = weighting.compute_objective(losses)
        fixed = self._split.sum_fixed(values)
        return (objective if fixed is None else objective + fixed), weights

    def _join_covered(self, values: list[Tensor]) -> Tensor:
        """Return the losses that the weighting covers, ``(covered,)``."""
        return torch.cat([value.reshape(-1) for value in self._split.select_covered(values)])

    def _halve_microbatch(self, size: int, error: torch.OutOfMemoryError) -> None:
        """Halve the parts of a batch that did not fit into memory."""
        current = min(self.microbatch or size, size)
        if self._unsplittable or current <= 1:
            reason = self._unsplittable or "one example alone is too large"
            raise BatchTooLarge(
                f"a batch of {size} examples does not fit into this trial's share of device "
                f"memory and cannot be split: {reason}; use a smaller batch_size, "
                "checkpointing=true or a larger --gpus-per-trial"
            ) from error
        self.microbatch = max(1, current // 2)
        self.state.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()

    def _compute_losses(self, inputs: TrainingInputs) -> tuple[list[Tensor], Tensor, Output | None]:
        """Return the losses, how many examples each averages, ``(k,)``, and the model's output.

        Losses are scalars or vectors; there is no output if no objective needs the batch's.
        """
        context, model, batch = self.context, self.state.model, inputs.batch
        with context.environment.autocast():
            step = Step(
                model,
                batch,
                lambda: model(batch.inputs),
                self._draw_auxiliary,
                token_share=context.benchmark.token_share,
                is_padded=bool(context.config.pad_to),
                drawn=inputs.drawn,
            )
            found = {id(objective): objective.compute_losses(step) for objective in self.active}
        values: list[Tensor] = []
        counts: list[Tensor] = []
        for objective, count in zip(context.objectives, self._counts, strict=True):
            losses = found.get(id(objective)) or self._zero_losses(count)
            parts = losses.values if isinstance(losses.values, list) else [losses.values]
            values += [part.float() for part in parts]
            counts.append(losses.counts)
        return values, torch.cat(counts), step.cached_output

    def _pad_texts(self, batch: Batch) -> Batch:
        """Return a batch whose texts have the number of positions that the config asks for."""
        length = self.context.config.pad_to
        return lengthen_batch(batch, length) if length else batch

    def _zero_losses(self, count: int) -> Losses:
        zeros = torch.zeros(count, device=self.context.device)
        return Losses(zeros, zeros)

    def _find_present(self, rows: Tensor) -> Tensor | None:
        """Return which covered losses have examples, bool on the host; None if all have."""
        objectives = self.context.objectives
        found = [objective.find_present(self.context.train, rows) for objective in objectives]
        if all(part is None for part in found) and bool(self._used.all()):
            return None
        parts = [
            torch.ones(count, dtype=torch.bool) if part is None else part
            for count, part in zip(self._counts, found, strict=True)
        ]
        return (torch.cat(parts) & self._used)[self._split.covered]

    def _multiply_weighted(self, factor: float) -> None:
        """Multiply the gradients of weighted parameters, where the config says so."""
        config = self.context.config
        if not multiplies_weighted(config, self.state.weighting):
            return
        for parameter in (*self.shared, *(self.heads if config.weighted_heads else ())):
            if parameter.grad is not None:
                parameter.grad *= factor

    def _clip_gradients(self) -> None:
        config = self.context.config
        if config.clip_norm:
            all_parameters = self.state.model.parameters()
            clipped = all_parameters if config.clip == "all" else self.shared
            nn.utils.clip_grad_norm_(clipped, config.clip_norm)

    def _has_fixed_kernels(self) -> bool:
        """Return whether steps with batches of one shape differ in their numbers only."""
        context, weighting = self.context, self.state.weighting
        config = context.config
        if isinstance(weighting, GramWeighting):  # solved outside of the graphs
            is_fixed = (
                config.gradients == "exact"
                and not weighting.caches_weights
                and bool(self._used.all())
                and all(objective.is_always_present for objective in context.objectives)
            )
        else:
            is_fixed = isinstance(weighting, LossWeighting) and weighting.has_fixed_kernels
        return (
            is_fixed
            and context.device.type == "cuda"
            and self.state.model.has_fixed_kernels
            and all(objective.has_fixed_kernels for objective in self.active)
            and not weighting.needs_losses_after_step
            and not context.losses.fixed_weights
            and not config.checkpointing
        )


def multiplies_weighted(config: TrainingConfig, weighting: Weighting) -> bool:
    """Return whether weighted gradients are multiplied by the number of losses covered."""
    return config.times_losses and not isinstance(weighting, LossWeighting)


def _why_unsplittable(objectives: Sequence[Objective], weighting: Weighting, model: Model) -> str:
    """Return why splitting a batch would change the step; empty where splitting is exact."""
    reason = why_unsplittable(objectives, weighting)
    if not reason and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        return "the model has batch normalization"
    return reason


def _detach_predictions(output: Output | None) -> dict[str, Tensor] | None:
    """Return the predictions by task, float32; None without an output."""
    if output is None:
        return None
    assert not isinstance(output.outputs, Tensor)  # the benchmark has tasks
    return {name: value.detach().float() for name, value in output.outputs.items()}


def _select_rows(batch: Batch, rows: Tensor) -> Batch:
    def select_rows(value: Any) -> Any:
        return value[rows]

    inputs = batch.inputs
    if isinstance(inputs, tuple):
        inputs = type(inputs)(*(select_rows(value) for value in inputs))
    else:
        inputs = select_rows(inputs)
    targets = {name: select_rows(target) for name, target in batch.targets.items()}
    return Batch(inputs, targets, None if batch.group is None else select_rows(batch.group))
