"""One training run, epoch by epoch."""

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from common.errors import UserError
from core import models
from core.models.base import Model
from core.models.pretrained.tokenizer import misread
from core.recipe.component import (
    make_augmentation,
    make_objective,
    make_stage,
    make_weighting,
)
from core.recipe.trial_key import TrialKey
from core.samplers import SAMPLERS
from core.stages.base import Features, Stage, split_validation
from core.training.epoch_row import EpochRow
from core.training.loader import AuxiliarySampler, Loader, duplicate_ids, make_batches, text_lengths
from core.training.optimizers import make_optimizer, make_schedule
from core.training.single_tasks import SingleTasks
from core.training.steps import MODEL_ERRORS, BatchTooLarge, Trainer, check_model_fits_data
from core.weighting import GramWeighting
from datasets.benchmark import Benchmark, Meter
from datasets.groups.base import GroupMeter
from datasets.multitask.base import TaskBenchmark

EVALUATION = 8  # evaluation batches are so many times larger, and a multiple of this
LARGEST = 1024


class NotFinite(ArithmeticError):
    """A loss became NaN or infinite."""


@dataclass(frozen=True)
class _Place:
    """An epoch's stage and its number within the stage, both from 0."""

    stage: int
    epoch: int


class Run:
    """Trains one model as its key says, one epoch at a time.

    All randomness is a function of (seed, purpose, stage, epoch), so a run that is stopped after
    any epoch and goes on from its state computes the same numbers, and the state holds no
    generators.

    Args:
        key: What the run is a pure function of.
        benchmark: The benchmark that the key names.
    """

    def __init__(self, key: TrialKey, benchmark: Benchmark) -> None:
        key.environment.apply()
        self.key = key
        self.benchmark = benchmark
        self.device = torch.device(key.environment.device)
        self.config = key.training_config
        self.objectives = [make_objective(part) for part in key.recipe.objectives]
        self.names = [name for part in self.objectives for name in part.names(benchmark)]
        self.stages = [make_stage(part) for part in key.recipe.stages]
        self.augmentation = make_augmentation(self.config.augmentation)
        self.data = benchmark.splits
        self.loader = Loader(benchmark, self.device)
        self.sample_counts = torch.ones(len(self.data["train"]), dtype=torch.int64)
        self.epochs_done = 0
        self.microbatch = self.config.microbatch
        self._fitting, self._selecting = self._halves()
        self.begin_stage(0)

    @property
    def total_epochs(self) -> int:
        """The epochs of all stages."""
        return sum(self._epochs(stage) for stage in self.stages)

    @property
    def _watched(self) -> str:
        """The metric that the schedule ``plateau`` watches, which selects unless told otherwise."""
        return self.benchmark.reported_metrics[0]

    def _epochs(self, stage: Stage) -> int:
        return self.config.epochs if stage.epochs is None else stage.epochs

    def _place(self, number: int) -> _Place:
        """Return the place of the epoch with this number, from 0."""
        for index, stage in enumerate(self.stages):
            if number < self._epochs(stage):
                return _Place(index, number)
            number -= self._epochs(stage)
        return _Place(len(self.stages) - 1, self._epochs(self.stages[-1]) - 1)

    def _generator(self, purpose: str, stage: int, epoch: int = 0) -> Generator:
        text = f"{self.key.seed} {purpose} {stage} {epoch}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
        return Generator().manual_seed(seed)

    def _halves(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the validation rows that fit and those that select; None where all select."""
        group = self.data["validation"].group
        if group is None or not any(stage.splits_validation for stage in self.stages):
            return None, None
        same = duplicate_ids(self.data["validation"])
        halves = split_validation(group, self._generator("halves", 0), same)
        present = [set(group[rows].tolist()) for rows in halves]
        lacking = sorted(present[0] ^ present[1])
        if lacking:
            raise UserError(
                f"{self.benchmark.name}: one half of validation would have no example of group "
                f"{', '.join(map(str, lacking))}, which validation has too few of; expected at "
                "least 2, and not of the same text alone"
            )
        return halves

    def begin_stage(self, index: int) -> None:
        """Make model, weighting, optimizer and schedule; the model afresh unless it is kept."""
        stage = self.stages[index]
        torch.manual_seed(self._generator("model", index).initial_seed())
        if index == 0 or stage.reinitialize:
            self.model: Model = self._new_model(stage).to(self.device)
        self.weighting = make_weighting(self.key.recipe.weighting)
        self.weighting.setup(self.names)
        self.weighting.to(self.device)
        self.optimizer = make_optimizer(self.model, self.weighting, self.config)
        self.steps_per_epoch = math.ceil(len(self._draw(index, 0)) / self.config.batch_size)
        steps = self.steps_per_epoch * self._epochs(stage)
        higher = self.benchmark.higher_is_better[self._watched]
        self.schedule = make_schedule(self.optimizer, self.config, steps, higher)

    def _new_model(self, stage: Stage) -> Model:
        name = self.config.model
        problem = misread(name, self.benchmark)
        if problem:
            raise UserError(problem)
        make = partial(
            models.build,
            name,
            parts=frozenset(part for objective in self.objectives for part in objective.parts),
            checkpointing=self.config.checkpointing,
            compiled=self.config.compile,
        )
        if stage.one_model_per_task:
            assert isinstance(self.benchmark, TaskBenchmark)  # such methods need tasks
            return SingleTasks(self.benchmark, lambda outputs: make(outputs=outputs))
        return make(outputs=self.benchmark.outputs)

    def _draw(self, stage: int, epoch: int) -> Tensor:
        """Return the indices of an epoch in order, ``(examples,)`` int64."""
        rows = torch.repeat_interleave(torch.arange(len(self.sample_counts)), self.sample_counts)
        sampler = SAMPLERS[self.key.recipe.sampler]
        epoch_generator = self._generator("sampler", stage, epoch)
        return sampler(self.data["train"], rows, epoch_generator, self._generator("subset", stage))

    def train_epoch(self) -> EpochRow:
        """Train the next epoch and validate.

        Raises:
            NotFinite: If a loss is NaN or infinite.
            BatchTooLarge: If a batch is too large for the device and must not be split.
            UserError: If the model cannot take the benchmark's examples.
            ValueError: If all epochs are done.
        """
        if self.epochs_done >= self.total_epochs:
            raise ValueError("all epochs are done")
        try:
            return self._train_epoch()
        except BatchTooLarge:
            raise
        except MODEL_ERRORS:
            if not self.epochs_done:
                check_model_fits_data(self)  # asked only now: a try with two examples costs time
            raise

    def _train_epoch(self) -> EpochRow:
        start = time.perf_counter()
        place = self._place(self.epochs_done)
        stage = self.stages[place.stage]
        torch.manual_seed(self._generator("round", place.stage, place.epoch).initial_seed())
        lr = self.optimizer.param_groups[0]["lr"]
        fitted = stage.fit(_Fitting(self, place)) if stage.splits_validation else False
        losses = {} if fitted else self._train(place)
        validation = self._validate()
        flagged = (
            int(self.weighting.flagged_steps) if isinstance(self.weighting, GramWeighting) else None
        )
        steps = 0 if fitted else self.steps_per_epoch
        self._end_epoch(validation)
        self.epochs_done += 1
        microbatch = self.microbatch or None
        if place.epoch + 1 == self._epochs(stage):
            self._end_stage(place.stage)
        return EpochRow(
            epoch=self.epochs_done,
            stage=place.stage,
            stage_epoch=place.epoch,
            eligible=stage.eligible,
            final=self.epochs_done == self.total_epochs,
            losses=losses,
            lr=lr,
            steps=steps,
            validation=validation,
            flagged=flagged,
            microbatch=microbatch,
            seconds=time.perf_counter() - start,
        )

    def _end_epoch(self, validation: Mapping[str, Any]) -> None:
        name = self.config.schedule
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(validation[self._watched])
        elif self.schedule is not None and name == "step":
            self.schedule.step()

    def _end_stage(self, index: int) -> None:
        if index + 1 == len(self.stages):
            return
        counts = self.stages[index].compute_sample_counts(self._correct_on_train)
        if counts is not None:
            self.sample_counts = counts.cpu()
        self.begin_stage(index + 1)

    def _correct_on_train(self) -> Tensor:
        meter = self.evaluate("train")
        assert isinstance(meter, GroupMeter)
        return meter.correct()

    def prepare_epoch(self, stage: int, number: int) -> tuple[Trainer, list[Tensor]]:
        """Return what takes the steps of a stage's epoch, both from 0, and its batches' rows."""
        trainer = Trainer(self, self.stages[stage])
        trainer.others = AuxiliarySampler(self.loader, self._generator("auxiliary", stage, number))
        size, lengths = self.config.batch_size, text_lengths(self.data["train"])
        windows = self._generator("windows", stage, number)
        return trainer, make_batches(self._draw(stage, number), size, lengths, windows)

    def _train(self, place: _Place) -> dict[str, float]:
        """Take the steps of one epoch; return the mean of each loss."""
        trainer, parts = self.prepare_epoch(place.stage, place.epoch)
        self.model.train()
        for rows, batch in self.loader.load_batches("train", parts):
            trainer.step(rows, batch)
        self.weighting.on_epoch_end()
        losses = trainer.means()
        if not all(math.isfinite(value) for value in losses.values()):
            wrong = ", ".join(f"{name} is {value}" for name, value in losses.items()
                              if not math.isfinite(value))  # fmt: skip
            raise NotFinite(f"loss not finite in epoch {self.epochs_done + 1}: {wrong}")
        return losses

    def _validate(self) -> dict[str, Any]:
        if not isinstance(self.model, SingleTasks):
            return self.evaluate("validation").metrics()
        self.model.judging = True
        values = self.evaluate("validation").metrics()
        self.model.judging = False
        return self.model.keep_best(values)

    def evaluate(self, split: str, batch_averaged: bool = False, most: int | None = None) -> Meter:
        """Return a meter that has seen the model's outputs for a split.

        Where a stage fits on half of the validation split, that split is its other half.

        Args:
            split: The split's name.
            batch_averaged: As in :meth:`datasets.multitask.base.TaskBenchmark.meter`.
            most: How many batches it sees, from the first; None for all.
        """
        selecting = self._selecting if split == "validation" else None
        rows = torch.arange(len(self.data[split])) if selecting is None else selecting
        meter = (
            self.benchmark.meter(split, batch_averaged=True)
            if batch_averaged and isinstance(self.benchmark, TaskBenchmark)
            else self.benchmark.meter(split)
        )
        self.model.eval()
        with torch.no_grad():
            for part, batch in islice(self._evaluation_batches(split, rows), most):
                with self.key.environment.autocast():
                    output = self.model(self.augmentation.evaluation(batch.inputs, self.image))
                outputs = output.outputs
                if isinstance(outputs, Tensor):
                    meter.add(part, outputs.float(), batch.targets)
                else:
                    meter.add(part, {n: t.float() for n, t in outputs.items()}, batch.targets)
        return meter

    def _evaluation_batches(self, split: str, rows: Tensor) -> Any:
        size = min(LARGEST, EVALUATION * max(1, self.config.batch_size))
        parts = make_batches(rows, size, text_lengths(self.data[split]))
        return self.loader.load_batches(split, parts)

    @property
    def image(self) -> Any:
        """The images that the model takes; None where it takes the inputs as they are."""
        return self.model.image

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next epochs depend on, as tensors and plain data."""
        return {
            "epochs_done": self.epochs_done,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "weighting": self.weighting.state_dict(),
            "sample_counts": self.sample_counts,
            "microbatch": self.microbatch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where :meth:`state_dict` was taken."""
        self.epochs_done = state["epochs_done"]
        self.sample_counts = state["sample_counts"]
        self.microbatch = state["microbatch"]
        self.begin_stage(self._place(self.epochs_done).stage)
        self.model.load_state_dict(state["model"])
        self.weighting.load_state_dict(state["weighting"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])


class _Fitting:
    """What a stage that fits the last layer by itself is given."""

    def __init__(self, run: Run, place: _Place) -> None:
        self.run = run
        self.layer: nn.Linear = run.model.last_layer()
        self.generator = run._generator("refit", place.stage, place.epoch)

    def features(self) -> Features:
        """Return the features of the validation examples that do not select."""
        run, seen = self.run, []
        rows = run._fitting
        split = run.data["validation"]
        assert rows is not None
        assert split.group is not None
        hook = self.layer.register_forward_pre_hook(
            lambda _, given: seen.append(given[0].detach().float().cpu())
        )
        run.model.eval()
        order = []
        with torch.no_grad():
            for part, batch in run._evaluation_batches("validation", rows):
                order.append(part)
                with run.key.environment.autocast():
                    run.model(run.augmentation.evaluation(batch.inputs, run.image))
        hook.remove()
        back = torch.cat(order).argsort()
        return Features(torch.cat(seen)[back], split.y[rows], split.group[rows])
