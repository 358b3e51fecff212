"""One training run, epoch by epoch."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from core.models.base import Model
from core.models.single_tasks import SingleTasks
from core.recipe.trial_key import TrialKey
from core.training.context import EpochPosition, RunContext, make_context
from core.training.epoch_row import EpochRow
from core.training.evaluation import (
    MODEL_ERRORS,
    LastLayerRefit,
    check_model_fits_data,
    evaluate_split,
)
from core.training.loader import AuxiliarySampler, get_text_lengths, make_batches
from core.training.run_state import EpochState, RunState
from core.training.stage_state import StageState, begin_stage, draw_rows, plateau_metric
from core.training.steps import BatchTooLarge, Trainer
from core.weighting import GramWeighting
from datasets.benchmark import Benchmark, Meter
from datasets.groups.base import GroupMeter


class NotFinite(ArithmeticError):
    """A loss became NaN or infinite."""


class Run:
    """Trains one model as its key says, one epoch at a time.

    All randomness is a function of (seed, purpose, stage, epoch). So a run that is stopped after
    any epoch and resumed from its state computes the same numbers, and the state has no
    generators.

    Args:
        key: The trial key, of which the run is a pure function.
        benchmark: The benchmark that the key names.
    """

    def __init__(self, key: TrialKey, benchmark: Benchmark) -> None:
        key.environment.configure_process()
        self.context: RunContext = make_context(key, benchmark)
        self.sample_counts = torch.ones(len(self.context.train), dtype=torch.int64)
        self.epochs_done = 0
        self.microbatch = key.training_config.microbatch
        self.stage_state: StageState = begin_stage(self.context, 0, self.sample_counts, None)

    @property
    def key(self) -> TrialKey:
        """The trial key."""
        return self.context.key

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark."""
        return self.context.benchmark

    @property
    def model(self) -> Model:
        """The model of the current stage."""
        return self.stage_state.model

    @property
    def total_epochs(self) -> int:
        """The epochs of all stages."""
        return self.context.total_epochs

    @property
    def steps_per_epoch(self) -> int:
        """The optimization steps of an epoch of the current stage."""
        return self.stage_state.steps_per_epoch

    def begin_stage(self, index: int) -> None:
        """Begin a stage, with the current model unless the stage reinitializes it."""
        self.stage_state = begin_stage(self.context, index, self.sample_counts, self.model)

    def train_epoch(
        self, measure_training: bool = False, observe: Callable[[], None] | None = None
    ) -> EpochRow:
        """Train the next epoch and validate.

        Args:
            measure_training: Whether the row has the metrics of the training split.
            observe: Called after validation, while the model is still the epoch's: a stage that
                ends may replace it.

        Raises:
            NotFinite: If a loss is NaN or infinite.
            BatchTooLarge: If a batch is too large for the device and cannot be split.
            UserError: If the model cannot take the benchmark's examples.
            ValueError: If all epochs are done.
        """
        if self.epochs_done >= self.total_epochs:
            raise ValueError("all epochs are done")
        try:
            return self._train_epoch(measure_training, observe)
        except BatchTooLarge:
            raise
        except MODEL_ERRORS:
            if not self.epochs_done:  # asked only now: computing two examples costs time
                check_model_fits_data(self.context, self.model)
            raise

    def _train_epoch(self, measure_training: bool, observe: Callable[[], None] | None) -> EpochRow:
        start = time.perf_counter()
        context, state = self.context, self.stage_state
        position = context.locate_epoch(self.epochs_done)
        stage = context.stages[position.stage]
        torch.manual_seed(context.make_generator("round", *position).initial_seed())
        lr = state.lr
        refitted = stage.splits_validation and stage.refit_layer(
            LastLayerRefit(context, state.model, context.make_generator("refit", *position))
        )
        trainer = None if refitted else self._take_steps(position)
        validation = self._validate_epoch()
        weights, conflicts = (None, None) if trainer is None else trainer.summarize_steps()
        meter = None if trainer is None else trainer.meter
        training = self.evaluate_split("train").compute_metrics() if measure_training else None
        if observe is not None:
            observe()
        state.step_epoch_schedule(validation, plateau_metric(context))
        self.epochs_done += 1
        weighting = state.weighting
        if position.epoch + 1 == context.stage_epochs[position.stage]:
            self._end_stage(position.stage)
        return EpochRow(
            epoch=self.epochs_done,
            stage=position.stage,
            stage_epoch=position.epoch,
            eligible=stage.eligible,
            final=self.epochs_done == self.total_epochs,
            losses={} if trainer is None else trainer.mean_losses(),
            lr=lr,
            steps=0 if refitted else state.steps_per_epoch,
            validation=validation,
            flagged=int(weighting.flagged_steps) if isinstance(weighting, GramWeighting) else None,
            microbatch=self.microbatch or None,
            weights=weights,
            conflicts=conflicts,
            training_batches=None if meter is None else meter.compute_metrics(),
            training=training,
            devices=1.0 if context.device.type == "cuda" else context.environment.threads,
            seconds=time.perf_counter() - start,
        )

    def prepare_epoch(self, position: EpochPosition) -> tuple[Trainer, list[Tensor]]:
        """Return the trainer of an epoch of the current stage, and the rows of its batches."""
        context = self.context
        auxiliary = AuxiliarySampler(context.loader, context.make_generator("auxiliary", *position))
        stage = context.stages[position.stage]
        trainer = Trainer(context, stage, self.stage_state, auxiliary, self.microbatch)
        batches = make_batches(
            draw_rows(context, self.sample_counts, position),
            context.config.batch_size,
            get_text_lengths(context.train),
            context.make_generator("windows", *position),
            self.stage_state.joins_single,
        )
        return trainer, batches

    def _take_steps(self, position: EpochPosition) -> Trainer:
        """Take the steps of one epoch; return their trainer, whose losses are finite."""
        trainer, batches = self.prepare_epoch(position)
        self.model.train()
        for rows, batch in self.context.loader.load_batches("train", batches):
            trainer.take_step(rows, batch)
        self.microbatch = trainer.microbatch
        self.stage_state.weighting.on_epoch_end()
        losses = trainer.mean_losses()
        wrong = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            number = self.epochs_done + 1
            raise NotFinite(f"loss not finite in epoch {number}: {', '.join(wrong)}")
        return trainer

    def _validate_epoch(self) -> dict[str, Any]:
        model = self.model
        if not isinstance(model, SingleTasks):
            return self.evaluate_split("validation").compute_metrics()
        with model.use_current():
            values = self.evaluate_split("validation").compute_metrics()
        return model.keep_best(values)

    def _end_stage(self, index: int) -> None:
        if index + 1 == len(self.context.stages):
            return
        counts = self.context.stages[index].compute_sample_counts(self._find_correct)
        if counts is not None:
            self.sample_counts = counts.cpu()
        self.begin_stage(index + 1)

    def _find_correct(self) -> Tensor:
        """Return whether the model is right on each training example, ``(n,)`` bool."""
        meter = self.evaluate_split("train")
        assert isinstance(meter, GroupMeter)
        return meter.compute_correct()

    def evaluate_split(
        self, split: str, batch_averaged: bool = False, max_batches: int | None = None
    ) -> Meter:
        """Evaluate the current model (:func:`core.training.evaluation.evaluate_split`)."""
        return evaluate_split(self.context, self.model, split, batch_averaged, max_batches)

    def make_state(self) -> RunState:
        """Return the state on which the next epochs depend."""
        state = self.stage_state
        return RunState(
            epochs_done=self.epochs_done,
            model=state.model.state_dict(),
            optimizer=state.optimizer.state_dict(),
            schedule=None if state.schedule is None else state.schedule.state_dict(),
            weighting=state.weighting.state_dict(),
            sample_counts=self.sample_counts,
            microbatch=self.microbatch,
        )

    def can_resume(self, state: EpochState) -> bool:
        """Return whether training can go on from a state: always."""
        return True

    def load_state(self, state: EpochState) -> None:
        """Resume from the state that :meth:`make_state` returned."""
        assert isinstance(state, RunState)
        self.epochs_done = state.epochs_done
        self.sample_counts = state.sample_counts
        self.microbatch = state.microbatch
        self.begin_stage(self.context.locate_epoch(self.epochs_done).stage)
        self.stage_state.load_state_dicts(
            state.model, state.weighting, state.optimizer, state.schedule
        )
