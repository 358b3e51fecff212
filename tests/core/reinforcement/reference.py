"""Multi-task soft actor-critic from its formulas: loops over tasks and examples, Adam by hand."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from core.reinforcement.learner import Learner, LearnerConfig
from core.reinforcement.networks import TaskNetwork
from core.reinforcement.replay import Transitions

Weights = Callable[[Tensor], Tensor]  # of the tasks, (k,), from their gradients' Gram matrix


class ReferenceNetwork:
    """A network as a list of matrices and vectors."""

    def __init__(self, network: TaskNetwork) -> None:
        self.has_task_id, self.tasks = network.has_task_id, len(network.task_id)
        self.names = [name for name, _ in network.named_parameters()]
        self.values = [p.detach().clone().requires_grad_() for p in network.parameters()]
        self.is_head = [name.startswith("heads.") for name in self.names]

    def compute_output(self, values: Tensor, task: int) -> Tensor:
        """Return the outputs of one example of a task."""
        found = dict(zip(self.names, self.values, strict=True))
        if self.has_task_id:
            one_hot = torch.zeros(self.tasks, dtype=values.dtype)
            one_hot[task] = 1
            values = torch.cat([values, one_hot])
        for i in range(sum(name.startswith("hidden.") for name in self.names) // 2):
            values = found[f"hidden.{i}.weight"] @ values + found[f"hidden.{i}.bias"]
            values = torch.where(values > 0, values, 0)
        if "heads.weight" in found:
            return values @ found["heads.weight"][task] + found["heads.bias"][task, 0]
        return found["last.weight"] @ values + found["last.bias"]


class ReferenceAdam:
    """Adam by its formulas."""

    def __init__(self, parameters: Sequence[Tensor], lr: float, epsilon: float) -> None:
        self.parameters, self.lr, self.epsilon, self.steps = parameters, lr, epsilon, 0
        self.means = [torch.zeros_like(p) for p in parameters]
        self.squares = [torch.zeros_like(p) for p in parameters]

    def take_step(self, gradients: Sequence[Tensor]) -> None:
        self.steps += 1
        for p, g, m, v in zip(self.parameters, gradients, self.means, self.squares, strict=True):
            m.copy_(0.9 * m + 0.1 * g)
            v.copy_(0.999 * v + 0.001 * g * g)
            mean, square = m / (1 - 0.9**self.steps), v / (1 - 0.999**self.steps)
            p.data -= self.lr * mean / (square.sqrt() + self.epsilon)


class ReferenceLearner:
    """The learner that starts from another one's networks."""

    def __init__(self, learner: Learner, weights: Weights) -> None:
        self.config: LearnerConfig = learner.config
        self.weights = weights
        self.actor = ReferenceNetwork(learner.actor)
        critics = [c for c in learner.critics if isinstance(c, TaskNetwork)]
        self.critics = [ReferenceNetwork(critic) for critic in critics]
        self.targets = [ReferenceNetwork(critic) for critic in critics]
        self.log_temperatures = learner.log_temperatures.detach().clone()
        self.actor_adam = ReferenceAdam(self.actor.values, self.config.lr, 1e-5)
        both = [value for critic in self.critics for value in critic.values]
        self.critic_adam = ReferenceAdam(both, self.config.lr, 1e-5)
        temperatures = [self.log_temperatures]
        self.temperature_adam = ReferenceAdam(temperatures, self.config.temperature_lr, 1e-8)

    def draw_action(self, observation: Tensor, noise: Tensor, task: int) -> tuple[Tensor, Tensor]:
        """Return an action and its logarithmic density."""
        mean, log_deviation = self.actor.compute_output(observation, task).chunk(2)
        deviation = log_deviation.clamp(-20, 2).exp()
        raw = mean + deviation * noise
        action = torch.tanh(raw)
        normal = torch.distributions.Normal(mean, deviation).log_prob(raw)
        return action, (normal + 2 * torch.log(torch.cosh(raw))).sum()

    def temperature(self, task: int) -> float:
        place = 0 if len(self.log_temperatures) == 1 else task
        return math.exp(float(self.log_temperatures[place]))

    def update(self, batch: Transitions, first: Tensor, second: Tensor) -> None:
        """Take one update with the noise of next actions and that of actions."""
        tasks, count = batch.rewards.shape
        losses = []
        for k in range(tasks):
            total = torch.zeros((), dtype=torch.float64)
            for b in range(count):
                after = batch.next_observations[k, b]
                action, log_density = self.draw_action(after, first[k, b], k)
                pair = torch.cat([after, action])
                lower = min(
                    float(target.compute_output(pair, k).detach()) for target in self.targets
                )
                soft = lower - self.temperature(k) * float(log_density.detach())
                ended = float(batch.ended[k, b])
                target = float(batch.rewards[k, b]) + self.config.gamma * (1 - ended) * soft
                pair = torch.cat([batch.observations[k, b], batch.actions[k, b]])
                for critic in self.critics:
                    total = total + (critic.compute_output(pair, k)[0] - target) ** 2 / count
            losses.append(total)
        self._descend(losses, self.critics, self.critic_adam)
        losses, log_densities = [], torch.zeros(tasks, count, dtype=torch.float64)
        for k in range(tasks):
            total = torch.zeros((), dtype=torch.float64)
            for b in range(count):
                observation = batch.observations[k, b]
                action, log_density = self.draw_action(observation, second[k, b], k)
                pair = torch.cat([observation, action])
                lower_value = torch.minimum(*(c.compute_output(pair, k)[0] for c in self.critics))
                total = total + (self.temperature(k) * log_density - lower_value) / count
                log_densities[k, b] = float(log_density.detach())
            losses.append(total)
        self._descend(losses, [self.actor], self.actor_adam)
        excess = (log_densities - self.config.action_size).mean(1)
        if len(self.log_temperatures) == 1:
            excess = excess.mean(0, keepdim=True)
        self.temperature_adam.take_step([-self.log_temperatures.exp() * excess])
        for target_network, critic in zip(self.targets, self.critics, strict=True):
            for old, new in zip(target_network.values, critic.values, strict=True):
                old.data = (1 - self.config.tau) * old.data + self.config.tau * new.data

    def _descend(
        self, losses: list[Tensor], networks: list[ReferenceNetwork], adam: ReferenceAdam
    ) -> None:
        parameters = [value for network in networks for value in network.values]
        is_head = [head for network in networks for head in network.is_head]
        rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
        flat = torch.stack(
            [
                torch.cat([g.flatten() for g, head in zip(row, is_head, strict=True) if not head])
                for row in rows
            ]
        )
        weights = self.weights(flat @ flat.T)
        gradients = []
        for i, head in enumerate(is_head):
            of_tasks = torch.stack([row[i] for row in rows])
            if head:
                gradients.append(of_tasks.sum(0))
            else:
                factor = len(losses) if self.config.times_losses else 1
                gradients.append(factor * torch.einsum("k,k...->...", weights, of_tasks))
        chosen = [
            g
            for g, head in zip(gradients, is_head, strict=True)
            if not (head and self.config.clip_shared)
        ]
        norm = math.sqrt(sum(float((g**2).sum()) for g in chosen))
        shrink = min(1.0, self.config.clip_norm / (norm + 1e-6)) if self.config.clip_norm else 1.0
        adam.take_step(
            [
                g if head and self.config.clip_shared else g * shrink
                for g, head in zip(gradients, is_head, strict=True)
            ]
        )
