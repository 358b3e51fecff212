"""One training run, round by round."""

import hashlib
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from core import models
from core.batch import Batch, Output
from core.key import TrialKey
from core.objectives.base import Objective
from core.optimisers import optimiser, schedule
from core.recipe import build
from core.samplers import SAMPLERS
from core.stages.base import Stage
from core.weighting import GramWeighting, LossWeighting, Weighting, backward
from datasets.benchmark import Benchmark, GroupBenchmark

Row = dict[str, Any]
EVALUATION_BATCH = 1024


class NotFinite(ArithmeticError):
    """A loss became NaN or infinite."""


@dataclass(frozen=True)
class _Place:
    """A round's stage and number within it, both from 0."""

    stage: int
    epoch: int


class Run:
    """Trains one model as its key says, a round (here: an epoch) at a time.

    All randomness is a function of (seed, purpose, stage, epoch), so a run that is stopped after
    any round and goes on from its state computes the same numbers, and the state holds no
    generators.

    Args:
        key: What the run is a pure function of.
        benchmark: The benchmark that the key names.
    """

    def __init__(self, key: TrialKey, benchmark: Benchmark) -> None:
        if not isinstance(benchmark, GroupBenchmark):
            raise TypeError(f"{benchmark.name}: only group benchmarks can be trained")
        key.environment.apply()
        self.key = key
        self.benchmark = benchmark
        self.device = torch.device(key.environment.device)
        self.objectives: list[Objective] = [
            build("objectives", part) for part in key.recipe["objectives"]
        ]
        self.names = [name for part in self.objectives for name in part.names(benchmark)]
        self.stages: list[Stage] = [build("stages", part) for part in key.recipe["stages"]]
        self.data = benchmark.splits
        self.on_device = {name: split.to(self.device) for name, split in self.data.items()}
        self.repetitions = torch.ones(len(self.data["train"]), dtype=torch.int64)
        self.rounds_done = 0
        self._begin_stage(0)

    @property
    def total_rounds(self) -> int:
        """The rounds of all stages."""
        return sum(self._epochs(stage) for stage in self.stages)

    def _epochs(self, stage: Stage) -> int:
        return int(self.key.settings["epochs"] if stage.epochs is None else stage.epochs)

    def _place(self, number: int) -> _Place:
        """Return the place of the round with this number, from 0."""
        for index, stage in enumerate(self.stages):
            if number < self._epochs(stage):
                return _Place(index, number)
            number -= self._epochs(stage)
        return _Place(len(self.stages) - 1, self._epochs(self.stages[-1]) - 1)

    def _generator(self, purpose: str, stage: int, epoch: int = 0) -> Generator:
        text = f"{self.key.seed} {purpose} {stage} {epoch}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
        return Generator().manual_seed(seed)

    def _begin_stage(self, stage: int) -> None:
        """Make model, weighting, optimiser and schedule afresh."""
        settings = self.key.settings
        torch.manual_seed(self._generator("model", stage).initial_seed())
        self.model: nn.Module = models.build(str(settings["model"]), self.benchmark.outputs)
        self.model.to(self.device)
        self.weighting: Weighting = build("weighting", self.key.recipe["weighting"])
        self.weighting.bind(self.names)
        self.weighting.to(self.device)
        self.optimiser = optimiser(self.model, self.weighting, settings)
        self.steps_per_epoch = math.ceil(len(self._draw(stage, 0)) / int(settings["batch_size"]))
        steps = self.steps_per_epoch * self._epochs(self.stages[stage])
        self.schedule = schedule(self.optimiser, settings, steps)

    def _draw(self, stage: int, epoch: int) -> Tensor:
        """Return the indices of an epoch in order, ``(examples,)`` int64."""
        rows = torch.repeat_interleave(torch.arange(len(self.repetitions)), self.repetitions)
        sampler = SAMPLERS[self.key.recipe["sampler"]]
        epoch_generator = self._generator("sampler", stage, epoch)
        return sampler(self.data["train"], rows, epoch_generator, self._generator("subset", stage))

    def round(self) -> Row:
        """Train the next round and validate.

        Returns:
            ``round`` (from 1), ``stage``, ``epoch`` (both from 0), ``eligible``, ``losses`` (mean
            over the round's examples, by name), ``lr`` (at its start), ``steps``, ``validation``
            (the benchmark's metrics) and ``seconds``; for a weighting by Gram matrix ``flagged``,
            the steps so far for which its equation had no answer.

        Raises:
            NotFinite: If a loss is NaN or infinite.
            ValueError: If all rounds are done.
        """
        if self.rounds_done >= self.total_rounds:
            raise ValueError("all rounds are done")
        start = time.perf_counter()
        place = self._place(self.rounds_done)
        stage = self.stages[place.stage]
        torch.manual_seed(self._generator("round", place.stage, place.epoch).initial_seed())
        lr = self.optimiser.param_groups[0]["lr"]
        row: Row = {
            "round": self.rounds_done + 1,
            "stage": place.stage,
            "epoch": place.epoch,
            "eligible": stage.eligible,
            "losses": self._train(self._draw(place.stage, place.epoch)),
            "lr": lr,
            "steps": self.steps_per_epoch,
            "validation": self.evaluate("validation")[0],
        }
        if isinstance(self.weighting, GramWeighting):
            row["flagged"] = int(self.weighting.flagged)
        self.rounds_done += 1
        if place.epoch + 1 == self._epochs(stage):
            self._end_stage(place.stage)
        row["seconds"] = time.perf_counter() - start
        return row

    def _end_stage(self, index: int) -> None:
        if index + 1 == len(self.stages):
            return
        repetitions = self.stages[index].repetitions(self._correct_on_train)
        if repetitions is not None:
            self.repetitions = repetitions.cpu()
        self._begin_stage(index + 1)

    def _correct_on_train(self) -> Tensor:
        outputs = self.evaluate("train")[1]
        return outputs.argmax(dim=1) == self.on_device["train"].y

    def _train(self, order: Tensor) -> dict[str, float]:
        """Take the steps of one epoch; return the mean of each loss."""
        self.model.train()
        train = self.on_device["train"]
        total = torch.zeros(len(self.names), dtype=torch.float64, device=self.device)
        seen = torch.zeros_like(total)
        for index in order.to(self.device).split(int(self.key.settings["batch_size"])):
            group = None if train.group is None else train.group[index]
            values, counts = self._step(Batch(train.inputs[index], train.y[index], group))
            total += values * counts
            seen += counts
        self.weighting.end_round()
        means = (total / seen.clamp(min=1)).tolist()  # the round's only transfer of losses
        losses = dict(zip(self.names, means, strict=True))
        if not all(math.isfinite(value) for value in means):
            wrong = ", ".join(f"{name} is {value}" for name, value in losses.items()
                              if not math.isfinite(value))  # fmt: skip
            raise NotFinite(f"loss not finite in round {self.rounds_done + 1}: {wrong}")
        return losses

    def _step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Take one step; return the losses and how many examples each averages, ``(k,)``."""
        values, counts = self._losses(batch)
        detached = torch.cat(values).detach()
        self.optimiser.zero_grad(set_to_none=True)
        if isinstance(self.weighting, LossWeighting):
            self.weighting.objective(self.weighting.transform(torch.cat(values))).backward()
        else:  # the losses are of one output, so all parameters are shared
            shared = list(self.model.parameters())
            backward(values, self.weighting, shared=shared, present=(counts > 0).cpu())
        clip_norm = float(self.key.settings["clip_norm"])
        if clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        self.optimiser.step()
        if self.schedule is not None:
            self.schedule.step()
        if self.weighting.second_look:
            with torch.no_grad():
                again = torch.cat(self._losses(batch)[0])
                self.weighting.after_step(self.weighting.transform(again))
        return detached, counts

    def _losses(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Return each objective's losses, and how many examples each loss averages, ``(k,)``."""
        with self.key.environment.autocast():
            output: Output = self.model(batch.inputs)
            parts = [objective.losses(batch, output) for objective in self.objectives]
        return [part.values.float() for part in parts], torch.cat([part.counts for part in parts])

    @torch.no_grad()
    def evaluate(self, split: str) -> tuple[dict[str, Any], Tensor]:
        """Return a split's metrics and the model's outputs for all its examples, ``(n, ...)``."""
        self.model.eval()
        with self.key.environment.autocast():
            parts = [
                self.model(inputs).outputs
                for inputs in self.on_device[split].inputs.split(EVALUATION_BATCH)
            ]
        outputs = torch.cat(parts).float()
        return self.benchmark.evaluate(split, outputs), outputs

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next rounds depend on, as tensors and plain data."""
        return {
            "rounds_done": self.rounds_done,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "weighting": self.weighting.state_dict(),
            "repetitions": self.repetitions,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where :meth:`state_dict` was taken."""
        self.rounds_done = state["rounds_done"]
        self.repetitions = state["repetitions"]
        self._begin_stage(self._place(self.rounds_done).stage)
        self.model.load_state_dict(state["model"])
        self.weighting.load_state_dict(state["weighting"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
