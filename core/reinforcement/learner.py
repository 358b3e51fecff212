"""Multi-task soft actor-critic: networks, losses per task, and one update of all of them.

Haarnoja et al., Soft Actor-Critic Algorithms and Applications, 2018. Each task has losses, and a
temperature, of its own; a weighting combines the tasks' gradients, once for the actor and once for
both critics together. The temperatures are never weighted: their gradients have one entry each.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from core.reinforcement.backward import StepMemory, backward_tasks
from core.reinforcement.networks import LayerTrace, TaskNetwork
from core.reinforcement.policy import choose_likeliest_actions, draw_actions
from core.reinforcement.positive_losses import LowestLosses
from core.reinforcement.replay import Transitions
from core.weighting.base import LossWeighting, Weighting
from core.weighting.gradients.strategies.step import BackwardResult

ADAM_EPSILON = 1e-5  # as the reference code of Meta-World V3
CRITICS = 2


@dataclass(frozen=True)
class LearnerConfig:
    """The settings of a learner.

    Args:
        tasks: The number of tasks, ``k``.
        observation_size: Numbers per observation.
        action_size: Numbers per action.
        width: Width of the actor's hidden layers.
        critic_width: Width of the critics'.
        depth: Number of hidden layers.
        sharing: As in :class:`core.reinforcement.networks.TaskNetwork`.
        shared_temperature: Whether all tasks have one temperature.
        lr: Learning rate of actor and critics.
        temperature_lr: Learning rate of the temperatures' logarithms.
        initial_temperature: The temperatures at the start.
        gamma: Discount of a step.
        tau: How far the target critics follow the critics in an update.
        clip_norm: Largest norm of the gradient of the actor, and of the critics; 0 does not clip.
        clip_shared: Whether the shared parameters alone are clipped.
        times_losses: Whether weighted gradients are multiplied by the number of tasks.
        weighted_heads: Whether the heads' gradients are weighted too.
    """

    tasks: int
    observation_size: int
    action_size: int
    width: int = 400
    critic_width: int = 400
    depth: int = 3
    sharing: str = "heads"
    shared_temperature: bool = False
    lr: float = 3e-4
    temperature_lr: float = 3e-4
    initial_temperature: float = 1.0
    gamma: float = 0.99
    tau: float = 0.005
    clip_norm: float = 1.0
    clip_shared: bool = False
    times_losses: bool = False
    weighted_heads: bool = False


class UpdateResult(NamedTuple):
    """The losses and gradients of an update; nothing here has waited for the device.

    Args:
        critic_losses: ``(k,)``.
        actor_losses: ``(k,)``.
        temperature_losses: ``(k,)``.
        critic: Weights and Gram matrix of the critics' step.
        actor: Those of the actor's.
    """

    critic_losses: Tensor
    actor_losses: Tensor
    temperature_losses: Tensor
    critic: BackwardResult
    actor: BackwardResult


class Learner:
    """Actor, critics and temperatures, and their optimizers.

    Args:
        config: The settings.
        actor_weighting: Combines the gradients of the actor; set up here.
        critic_weighting: Combines those of the critics; another object.
        names: The tasks' names.
        device: Where it computes.
        dtype: Type of its numbers.
    """

    def __init__(
        self,
        config: LearnerConfig,
        actor_weighting: Weighting,
        critic_weighting: Weighting,
        names: Sequence[str],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.config = config
        self._is_cuda = torch.device(device).type == "cuda"  # where steps can be captured
        sizes = (config.tasks, config.observation_size, config.action_size)
        rest = (config.depth, config.sharing)
        self.actor = TaskNetwork(sizes[0], sizes[1], 2 * sizes[2], config.width, *rest)
        self.critics = nn.ModuleList(
            TaskNetwork(sizes[0], sizes[1] + sizes[2], 1, config.critic_width, *rest)
            for _ in range(CRITICS)
        )
        for network in (self.actor, self.critics):
            network.to(device, dtype)
        self.target_critics = deepcopy(self.critics).requires_grad_(False)
        temperatures = 1 if config.shared_temperature else config.tasks
        self.log_temperatures = nn.Parameter(
            torch.full(
                (temperatures,), config.initial_temperature, device=device, dtype=dtype
            ).log()
        )
        self.actor_weighting, self.critic_weighting = actor_weighting, critic_weighting
        for weighting in (actor_weighting, critic_weighting):
            weighting.setup(names)
            weighting.to(device)
        self.actor_optimizer = self._make_optimizer(self.actor, actor_weighting)
        self.critic_optimizer = self._make_optimizer(self.critics, critic_weighting)
        self.temperature_optimizer = torch.optim.Adam(
            [self.log_temperatures],
            lr=config.temperature_lr,
            fused=self._is_cuda or None,
            capturable=self._is_cuda,
        )
        self._memory = StepMemory()
        # Actor losses may be negative, which weightings by the losses' sizes cannot take.
        self.lowest_losses = LowestLosses(config.tasks, device, dtype)

    def _make_optimizer(self, network: nn.Module, weighting: Weighting) -> torch.optim.Adam:
        config = self.config
        groups: list[dict[str, Any]] = [{"params": list(network.parameters())}]
        learned = list(weighting.parameters())
        if learned:
            own_lr = {} if weighting.lr is None else {"lr": weighting.lr}
            groups.append({"params": learned, **own_lr})
        return torch.optim.Adam(
            groups,
            lr=config.lr,
            eps=ADAM_EPSILON,
            fused=self._is_cuda or None,
            capturable=self._is_cuda,
        )

    @property
    def temperatures(self) -> Tensor:
        """The temperatures, ``(k, 1)``, without a gradient."""
        return self.log_temperatures.detach().exp().expand(self.config.tasks)[:, None]

    def draw_noise(self, count: int) -> Tensor:
        """Draw noise for the actions of ``count`` observations of each task, independently."""
        shape = (self.config.tasks, count, self.config.action_size)
        kind = self.log_temperatures
        return torch.randn(shape, device=kind.device, dtype=kind.dtype)

    @torch.no_grad()
    def choose_actions(self, observations: Tensor, deterministic: bool) -> Tensor:
        """Return actions for observations, ``(k, b, o)``, without a gradient, ``(k, b, a)``."""
        outputs = self.actor(observations)
        if deterministic:
            return choose_likeliest_actions(outputs)
        return draw_actions(outputs, self.draw_noise(observations.shape[1])).actions

    def update(self, batch: Transitions) -> UpdateResult:
        """Take one step of the critics, the actor, the temperatures and the target critics.

        Args:
            batch: Transitions, the same number of each task.
        """
        count = batch.rewards.shape[1]
        targets = self.compute_targets(batch, self.draw_noise(count))
        critic_losses, critic = self._step_critics(batch, targets)
        noise = self.draw_noise(count)
        actor_losses, log_densities, actor = self._step_actor(batch, noise)
        temperature_losses = self._step_temperatures(log_densities)
        self._move_targets()
        return UpdateResult(critic_losses, actor_losses, temperature_losses, critic, actor)

    @torch.no_grad()
    def compute_targets(self, batch: Transitions, noise: Tensor) -> Tensor:
        """Return the critics' targets, ``(k, b)``; next actions are drawn at next observations."""
        drawn = draw_actions(self.actor(batch.next_observations), noise)
        pairs = torch.cat([batch.next_observations, drawn.actions], dim=2)
        values = torch.minimum(*(critic(pairs) for critic in self.target_critics)).squeeze(2)
        soft = values - self.temperatures * drawn.log_densities
        return batch.rewards + self.config.gamma * (1 - batch.ended) * soft

    def compute_critic_losses(
        self, batch: Transitions, targets: Tensor, traces: list[LayerTrace] | None = None
    ) -> Tensor:
        """Return the squared errors of both critics, a mean over examples per task, ``(k,)``."""
        pairs = torch.cat([batch.observations, batch.actions], dim=2)
        errors = [critic(pairs, traces).squeeze(2) - targets for critic in self.critics]
        return torch.stack([error.square().mean(1) for error in errors]).sum(0)

    def compute_actor_losses(
        self, observations: Tensor, noise: Tensor, traces: list[LayerTrace] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the actor's losses, ``(k,)``, and the actions' logarithmic densities, ``(k, b)``.

        Args:
            observations: ``(k, b, o)``.
            noise: Standard normal numbers, ``(k, b, a)``.
            traces: Receives the actor's shared layers.
        """
        drawn = draw_actions(self.actor(observations, traces), noise)
        pairs = torch.cat([observations, drawn.actions], dim=2)
        with _freeze_parameters(self.critics):
            values = torch.minimum(*(critic(pairs) for critic in self.critics)).squeeze(2)
        losses = (self.temperatures * drawn.log_densities - values).mean(1)
        return losses, drawn.log_densities.detach()

    def _step_critics(self, batch: Transitions, targets: Tensor) -> tuple[Tensor, BackwardResult]:
        traces: list[LayerTrace] = []
        losses = self.compute_critic_losses(batch, targets, traces)
        networks = [critic for critic in self.critics if isinstance(critic, TaskNetwork)]
        result = self._descend(
            losses, self.critic_weighting, traces, networks, self.critic_optimizer
        )
        if self.critic_weighting.needs_losses_after_step:
            with torch.no_grad():
                again = self.compute_critic_losses(batch, targets)
                self.critic_weighting.after_step(self.critic_weighting.transform_losses(again))
        return losses.detach(), result

    def _step_actor(
        self, batch: Transitions, noise: Tensor
    ) -> tuple[Tensor, Tensor, BackwardResult]:
        traces: list[LayerTrace] = []
        losses, log_densities = self.compute_actor_losses(batch.observations, noise, traces)
        weighting = self.actor_weighting
        seen = (
            self.lowest_losses.raise_losses(losses) if weighting.needs_positive_losses else losses
        )
        result = self._descend(seen, weighting, traces, [self.actor], self.actor_optimizer)
        if weighting.needs_losses_after_step:
            with torch.no_grad():
                again, _ = self.compute_actor_losses(batch.observations, noise)
                again = (
                    self.lowest_losses.raise_again(again)
                    if weighting.needs_positive_losses
                    else again
                )
                weighting.after_step(weighting.transform_losses(again))
        return losses.detach(), log_densities, result

    def _descend(
        self,
        losses: Tensor,
        weighting: Weighting,
        traces: Sequence[LayerTrace],
        networks: Sequence[TaskNetwork],
        optimizer: torch.optim.Optimizer,
    ) -> BackwardResult:
        config = self.config
        optimizer.zero_grad(set_to_none=True)
        heads = [p for network in networks for p in network.head_parameters]
        shared = [p for network in networks for p in network.shared_parameters]
        result = backward_tasks(
            losses,
            weighting,
            traces,
            heads,
            weighted_heads=config.weighted_heads,
            memory=self._memory,
        )
        if config.times_losses and not isinstance(weighting, LossWeighting):
            for parameter in (*shared, *(heads if config.weighted_heads else ())):
                if parameter.grad is not None:
                    parameter.grad *= config.tasks
        if config.clip_norm:
            clipped = shared if config.clip_shared else [*shared, *heads]
            nn.utils.clip_grad_norm_(clipped, config.clip_norm)
        optimizer.step()
        return result

    def _step_temperatures(self, log_densities: Tensor) -> Tensor:
        target_entropy = -self.config.action_size
        excess = (log_densities + target_entropy).mean(1)
        losses = -self.log_temperatures.exp() * excess
        self.temperature_optimizer.zero_grad(set_to_none=True)
        # One temperature of all tasks follows their mean, as in System 2.
        (losses.mean() if self.config.shared_temperature else losses.sum()).backward()
        self.temperature_optimizer.step()
        return losses.detach()

    @torch.no_grad()
    def _move_targets(self) -> None:
        torch._foreach_lerp_(
            list(self.target_critics.parameters()), list(self.critics.parameters()),
            self.config.tau,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return the state on which the next updates depend, besides the generators."""
        return {
            name: part.detach() if isinstance(part, Tensor) else part.state_dict()
            for name, part in self._parts().items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that :meth:`state_dict` returned."""
        for name, part in self._parts().items():
            if isinstance(part, Tensor):
                part.data.copy_(state[name])
            else:
                part.load_state_dict(state[name])

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer | Tensor]:
        return {
            "actor": self.actor,
            "critics": self.critics,
            "target_critics": self.target_critics,
            "log_temperatures": self.log_temperatures,
            "actor_weighting": self.actor_weighting,
            "critic_weighting": self.critic_weighting,
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "temperature_optimizer": self.temperature_optimizer,
            "lowest_losses": self.lowest_losses.values,
        }


@contextmanager
def _freeze_parameters(module: nn.Module) -> Iterator[None]:
    """Take no gradients by a module's parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
