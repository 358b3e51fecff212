"""One epoch's optimisation steps."""

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from common.errors import UserError
from core.batch import Batch
from core.objectives.base import Losses, Objective, Step
from core.stages.base import Stage
from core.training.optimizers import PER_EPOCH_SCHEDULES
from core.weighting import LossWeighting, backward
from core.weighting.methods.fixed import Fixed
from core.weighting.methods.ls import LinearScalarization

if TYPE_CHECKING:
    from core.training.run import Run

# What networks and objectives raise of inputs or outputs of another kind than theirs. Networks are
# torch's, transformers' or a user's own, and have no error in common for that.
MODEL_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)


class BatchTooLarge(RuntimeError):
    """A batch does not fit into the device memory that the run may use."""


class Source(Protocol):
    """Where objectives draw examples of their own."""

    def draw_batch(self, count: int) -> Batch:
        """Return the next ``count`` training examples."""
        ...


class Trainer:
    """Takes the steps of one epoch of a run and sums its losses.

    Args:
        run: The run.
        stage: The stage, which says which objectives are descended.
    """

    others: Source

    def __init__(self, run: "Run", stage: Stage) -> None:
        self.run = run
        active = [stage.uses(objective) for objective in run.objectives]
        self.active = [o for o, used in zip(run.objectives, active, strict=True) if used]
        named = [objective.names(run.benchmark) for objective in run.objectives]
        self.used = torch.tensor(
            [used for names, used in zip(named, active, strict=True) for _ in names]
        )
        device = run.device
        self.total = torch.zeros(len(run.names), dtype=torch.float64, device=device)
        self.seen = torch.zeros_like(self.total)
        heads = run.model.heads()
        own = {} if any(o.shares_head for o in self.active) else heads
        self.heads = [p for module in own.values() for p in module.parameters()]
        of_heads = {id(p) for p in self.heads}
        self.shared = [p for p in run.model.parameters() if id(p) not in of_heads]
        self.whole = why_whole(run, self.active)

    def means(self) -> dict[str, float]:
        """Return the mean of each loss over the examples seen: the epoch's only transfer."""
        means = (self.total / self.seen.clamp(min=1)).tolist()
        used = self.used.tolist()
        return {n: v for n, v, u in zip(self.run.names, means, used, strict=True) if u}

    def step(self, rows: Tensor, batch: Batch) -> None:
        """Take one step.

        Args:
            rows: Which training examples these are, ``(b,)`` int64 on the host.
            batch: They.

        Raises:
            DoesNotFit: If the batch is too large for the device and must not be split.
        """
        run = self.run
        batch = run.augmentation.training(batch, run.image)
        while True:
            try:
                run.optimizer.zero_grad(set_to_none=True)
                values, counts = self._gradients(rows, batch)
                break
            except torch.OutOfMemoryError as error:
                self._split_further(batch.size, error)
        self._clip()
        run.optimizer.step()
        if run.schedule is not None and run.config.schedule not in PER_EPOCH_SCHEDULES:
            run.schedule.step()
        if run.weighting.needs_losses_after_step:
            with torch.no_grad():
                again = torch.cat([v.reshape(-1) for v in self._losses(batch)[0]])
                run.weighting.after_step(run.weighting.transform_losses(again))
        self.total += values * counts
        self.seen += counts

    def _gradients(self, rows: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Accumulate the step's gradients; return the losses and their counts, ``(k,)``."""
        run = self.run
        if run.microbatch and run.microbatch < batch.size:
            if self.whole:
                raise BatchTooLarge(f"microbatch: batches must not be split: {self.whole}")
            return self._in_parts(batch)
        values, counts = self._losses(batch)
        detached = torch.cat([value.detach().reshape(-1) for value in values])
        if isinstance(run.weighting, LossWeighting):
            losses = torch.cat([value.reshape(-1) for value in values])
            run.weighting.compute_objective(run.weighting.transform_losses(losses)).backward()
        else:
            try:
                backward(
                    values,
                    run.weighting,
                    shared=self.shared,
                    heads=self.heads,
                    features=self._features,
                    present=self._present(rows),
                    strategy=run.config.gradients,
                    weighted_heads=run.config.weighted_heads,
                )
            except (ValueError, TypeError) as error:
                raise UserError(str(error)) from error
        return detached, counts

    def _in_parts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Accumulate the gradients of parts of a batch, each weighted by its share."""
        run = self.run
        total = torch.zeros(len(run.names), device=run.device)
        counts = torch.zeros_like(total)
        for rows in torch.arange(batch.size, device=run.device).split(run.microbatch):
            part = _part(batch, rows)
            share = part.size / batch.size
            values, count = self._losses(part)
            losses = torch.cat([value.reshape(-1) for value in values])
            assert isinstance(run.weighting, LossWeighting)
            (run.weighting.compute_objective(losses) * share).backward()
            total += losses.detach() * share
            counts += count
        return total, counts

    def _split_further(self, size: int, error: torch.OutOfMemoryError) -> None:
        """Halve the parts of a batch that did not fit."""
        run = self.run
        now = min(run.microbatch or size, size)
        if self.whole or now <= 1:
            why = self.whole or "one example alone is too large"
            raise BatchTooLarge(
                f"a batch of {size} examples does not fit into this trial's share of device "
                f"memory, and it must not be split: {why}; take a smaller batch_size, "
                "checkpointing=true or a larger --gpus-per-trial"
            ) from error
        run.microbatch = max(1, now // 2)
        run.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()

    def _losses(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Return the losses, scalars or parts, and how many examples each averages, ``(k,)``."""
        run = self.run
        with run.key.environment.autocast():
            step = Step(run.model, batch, lambda: run.model(batch.inputs), self.others.draw_batch)
            found = {
                id(objective): objective.losses(step)
                for objective in sorted(self.active, key=lambda objective: objective.last)
            }
        self._features = None if step.computed is None else step.computed.features
        values: list[Tensor] = []
        counts: list[Tensor] = []
        for objective in run.objectives:
            losses = found.get(id(objective)) or self._absent(objective)
            parts = losses.values if isinstance(losses.values, list) else [losses.values]
            values += [part.float() for part in parts]
            counts.append(losses.counts)
        return values, torch.cat(counts)

    def _absent(self, objective: Objective) -> Losses:
        zeros = torch.zeros(len(objective.names(self.run.benchmark)), device=self.run.device)
        return Losses(zeros, zeros)

    def _present(self, rows: Tensor) -> Tensor | None:
        """Return which losses have examples, ``(k,)`` bool on the host; None if all have."""
        found = [o.present(self.run.data["train"], rows) for o in self.run.objectives]
        if all(part is None for part in found) and bool(self.used.all()):
            return None
        parts = [
            torch.ones(len(o.names(self.run.benchmark)), dtype=torch.bool) if p is None else p
            for o, p in zip(self.run.objectives, found, strict=True)
        ]
        return torch.cat(parts) & self.used

    def _clip(self) -> None:
        config = self.run.config
        norm = config.clip_norm
        if norm:
            every = config.clip == "all"
            nn.utils.clip_grad_norm_(self.run.model.parameters() if every else self.shared, norm)


def check_model_fits_data(run: "Run") -> None:
    """Raise an error if the model cannot compute two examples of the benchmark.

    Raises:
        UserError: If it cannot, or returns outputs of another kind than the benchmark's.
    """
    where = f"model: received '{run.config.model}', which"
    batch = run.loader.load_batch("train", torch.arange(min(2, len(run.data["train"]))))
    run.model.eval()
    try:
        with torch.no_grad():
            found = run.model(run.augmentation.evaluation(batch.inputs, run.image)).outputs
    except MODEL_ERRORS as error:
        if run.device.type == "cuda" and "CUDA" in str(error):  # the device's failure
            return
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{where} cannot take the inputs of data set '{run.benchmark.name}' ({reason}); its "
            f"own model is '{run.benchmark.training_config.model}'"
        ) from None
    wanted = run.benchmark.outputs
    fits = set(wanted) == {"y"} if isinstance(found, Tensor) else set(found) == set(wanted)
    if not fits or (set(wanted) == {"y"} and not isinstance(found, Tensor)):
        raise UserError(
            f"{where} has no outputs as data set '{run.benchmark.name}' has targets; its own model "
            f"is '{run.benchmark.training_config.model}'"
        )


def why_whole(run: "Run", objectives: list[Objective]) -> str:
    """Return why a batch must not be split into smaller ones; empty where that is exact."""
    if not isinstance(run.weighting, Fixed | LinearScalarization) or run.weighting.loss_alpha:
        return "the weighting looks at the losses of the whole batch"
    for objective in objectives:
        if not objective.splits:
            return f"{type(objective).__name__} is not a mean over examples"
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in run.model.modules()):
        return "the model has batch normalisation"
    return ""


def _part(batch: Batch, rows: Tensor) -> Batch:
    def take(value: Any) -> Any:
        return value[rows]

    inputs = batch.inputs
    if isinstance(inputs, tuple):
        inputs = type(inputs)(*(take(value) for value in inputs))
    else:
        inputs = take(inputs)
    targets = {name: take(target) for name, target in batch.targets.items()}
    return Batch(inputs, targets, None if batch.group is None else take(batch.group))
