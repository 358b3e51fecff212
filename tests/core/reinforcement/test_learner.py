"""Multi-task soft actor-critic against its formulas, in float64."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from core.recipe.component import component_classes
from core.reinforcement import backward as task_backward
from core.reinforcement.backward import LayerGradients, StepMemory, backward_tasks
from core.reinforcement.learner import Learner, LearnerConfig
from core.reinforcement.networks import SHARING, LayerTrace
from core.reinforcement.replay import Transitions
from core.weighting import Weighting, backward, load_weighting
from core.weighting.base import GradientWeighting, GramWeighting
from core.weighting.gradients.task_gradients import (
    GRAM_BLOCK_ROWS,
    compute_gram,
    estimate_gram,
    has_dependent_rows,
)
from tests.core.reinforcement.reference import ReferenceLearner
from tests.support.networks import FROM_GRAM

TASKS, OBSERVATIONS, ACTIONS, COUNT = 3, 5, 2, 3
SMALL = LearnerConfig(
    TASKS, OBSERVATIONS, ACTIONS, width=7, critic_width=9, depth=2, lr=3e-3, temperature_lr=1e-2
)
NAMES = ("reach", "push", "pick")


def make_learner(
    config: LearnerConfig = SMALL, name: str = "ls", seed: int = 0, **parameters: Any
) -> Learner:
    torch.manual_seed(seed)
    first, second = (load_weighting(name, **parameters) for _ in range(2))
    return Learner(config, first, second, NAMES[: config.tasks], dtype=torch.float64)


def make_batch(seed: int, tasks: int = TASKS, count: int = COUNT) -> Transitions:
    random = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(tasks, count, *size, generator=random, dtype=torch.float64)

    scale = torch.tensor([1.0, 10.0, 0.1, 3.0])[:tasks, None]
    ended = (draw() > 1).double()
    return Transitions(
        draw(OBSERVATIONS), draw(ACTIONS).tanh(), draw() * scale, draw(OBSERVATIONS), ended
    )


def losses_and_traces(
    learner: Learner, part: str
) -> tuple[Tensor, list[LayerTrace], Sequence[Tensor]]:
    """Return the losses of a part, the traces of its layers and its heads."""
    batch, traces = make_batch(1), list[LayerTrace]()
    torch.manual_seed(2)
    if part == "critics":
        targets = learner.compute_targets(batch, learner.draw_noise(COUNT))
        losses = learner.compute_critic_losses(batch, targets, traces)
        heads = [p for c in learner.critics for n, p in c.named_parameters() if "heads" in n]
        return losses, traces, heads
    losses, _ = learner.compute_actor_losses(batch.observations, learner.draw_noise(COUNT), traces)
    heads = [p for n, p in learner.actor.named_parameters() if "heads" in n]
    return losses, traces, heads


def shared_of(traces: list[LayerTrace]) -> list[Tensor]:
    return [p for trace in traces for p in (trace.layer.weight, trace.layer.bias)]


@pytest.mark.parametrize("part", ["actor", "critics"])
@pytest.mark.parametrize("sharing", SHARING)
def test_task_gradients_are_those_of_separate_passes(
    sharing: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner(replace(SMALL, sharing=sharing))
    losses, traces, heads = losses_and_traces(learner, part)
    parameters = [*shared_of(traces), *heads]
    assert len(shared_of(traces)) + len(heads) == len(
        list((learner.actor if part == "actor" else learner.critics).parameters())
    )
    separate = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
    outputs = [trace.outputs for trace in traces]
    found = torch.autograd.grad(losses.sum(), outputs, retain_graph=True)
    layers = [LayerGradients(*pair, StepMemory()) for pair in zip(traces, found, strict=True)]
    rows = [row for layer in layers for row in layer.compute_gradients()]
    for i, of_tasks in enumerate(rows):
        expected = torch.stack([gradients[i].flatten() for gradients in separate])
        torch.testing.assert_close(of_tasks, expected, rtol=1e-9, atol=1e-12)
        assert expected.abs().max() > 0
    flat = torch.cat(rows, dim=1)
    monkeypatch.setattr(task_backward, "PIECE_ENTRIES", 40)  # pieces, the last of them shorter
    for keep in (True, False):
        layers = [LayerGradients(*pair, StepMemory()) for pair in zip(traces, found, strict=True)]
        gram = torch.stack([layer.compute_gram(keep) for layer in layers]).sum(0)
        torch.testing.assert_close(gram, flat @ flat.T, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("keep", [False, True])
def test_inner_products_of_float32_gradients_are_close(keep: bool) -> None:
    tasks, layer = 2 * GRAM_BLOCK_ROWS + 5, torch.nn.Linear(60, 80)
    inputs, of_outputs = torch.randn(tasks, 4, 60), torch.randn(tasks, 4, 80)
    gradients = LayerGradients(LayerTrace(layer, inputs, layer(inputs)), of_outputs, StepMemory())
    found = gradients.compute_gram(keep)
    rows = torch.cat(gradients.compute_gradients(), dim=1).double()
    norms = rows.norm(dim=1)
    assert ((found - rows @ rows.T).abs() / (norms[:, None] * norms)).max() < 1e-6


@pytest.mark.parametrize("third", [(1.0, 1.0), (-0.3, -0.3), (1.0, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("name", FROM_GRAM)
def test_dependent_float32_gradients_have_the_weights_of_exact_products(
    name: str, third: tuple[float, float]
) -> None:
    """The third task's gradient is a combination of the other two, or 0."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(200, 300)
    inputs = torch.randn(2, 4, 200)
    inputs = torch.stack([torch.cat([a, a * 0]) for a in inputs] + [inputs.flatten(0, 1)])
    factors = torch.ones(3, 8, 1)
    factors[2] = torch.tensor(third).repeat_interleave(4)[:, None]
    targets = torch.randn(2, 4, 300)
    scales = torch.stack([*(torch.cat([t, t * 0]) for t in targets), targets.flatten(0, 1)])
    found = []
    for is_exact in (False, True):
        outputs = layer(inputs)
        losses = (outputs * scales * factors).sum((1, 2))
        losses = losses - losses.detach() + 1  # some need positive ones
        weighting = load_weighting(name)
        weighting.setup(["0", "1", "2"])
        torch.manual_seed(1)
        with pytest.MonkeyPatch.context() as patch:
            if is_exact:
                patch.setattr(task_backward, "estimate_gram", compute_gram)
            trace = LayerTrace(layer, inputs, outputs)
            found.append(backward_tasks(losses, weighting, [trace], []).weights)
    assert found[0] is not None
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_rows_that_depend_on_each_other_are_found() -> None:
    a, b = torch.randn(2, 5000)
    for rows in ([a, b, a + b], [a, a * 3, b], [a, b, a * 0], [a, b, a + 1e-3 * b]):
        assert has_dependent_rows(estimate_gram(torch.stack(rows)))
    assert not has_dependent_rows(estimate_gram(torch.stack([a, b, a + 0.2 * b + b.flip(0)])))
    assert has_dependent_rows(torch.full((2, 2), torch.nan, dtype=torch.float64))


def make_every_weighting() -> list[str]:
    return sorted(component_classes("weighting"))


@pytest.mark.parametrize("weighted_heads", [False, True])
@pytest.mark.parametrize("part", ["actor", "critics"])
@pytest.mark.parametrize("name", make_every_weighting())
def test_step_is_that_of_supervised_training(name: str, part: str, weighted_heads: bool) -> None:
    """The same weights, Gram matrix and gradients as by a pass per task."""
    results = []
    for batched in (True, False):
        learner = make_learner()
        weighting: Weighting = load_weighting(name)
        weighting.setup(NAMES)
        losses, traces, heads = losses_and_traces(learner, part)
        losses = losses - losses.detach() + losses.detach().abs() + 0.5  # some need positive ones
        shared = shared_of(traces)
        torch.manual_seed(3)
        if batched:
            result = backward_tasks(losses, weighting, traces, heads, weighted_heads=weighted_heads)
        else:
            result = backward(
                losses, weighting, shared=shared, heads=heads, weighted_heads=weighted_heads
            )
        grads = [p.grad for p in (*shared, *heads)]
        assert all(grad is not None for grad in grads)
        results.append((result, [grad for grad in grads if grad is not None]))
    (found, found_grads), (expected, expected_grads) = results
    scale = max(float(grad.abs().max()) for grad in expected_grads)
    for grad_, expected_grad in zip(found_grads, expected_grads, strict=True):
        torch.testing.assert_close(grad_, expected_grad, rtol=1e-9, atol=1e-9 * scale)
    if isinstance(weighting, GramWeighting | GradientWeighting):
        assert found.gram is not None
        torch.testing.assert_close(found.gram, expected.gram, rtol=1e-9, atol=1e-15)
    if expected.weights is not None:
        torch.testing.assert_close(found.weights, expected.weights, rtol=1e-9, atol=1e-12)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("ls", SMALL),
        ("ls", replace(SMALL, sharing="all", shared_temperature=True, clip_norm=0.0)),
        ("imtl", replace(SMALL, sharing="one_hot")),
        ("fairgrad", replace(SMALL, times_losses=True, clip_shared=True)),
    ],
)
def test_fifty_updates_are_those_of_the_formulas(name: str, config: LearnerConfig) -> None:
    learner = make_learner(config, name)
    weighting = load_weighting(name)

    def weigh(gram: Tensor) -> Tensor:
        if isinstance(weighting, GramWeighting):
            return weighting.compute_weights(gram)
        return torch.ones(len(gram), dtype=torch.float64)

    reference = ReferenceLearner(learner, weigh)
    start = [value.detach().clone() for value in reference.actor.values]
    for step in range(50):
        batch = make_batch(step + 10)
        torch.manual_seed(step)
        learner.update(batch)
        torch.manual_seed(step)
        reference.update(batch, learner.draw_noise(COUNT), learner.draw_noise(COUNT))
    pairs = [
        *zip(learner.actor.parameters(), reference.actor.values, strict=True),
        *zip(learner.critics.parameters(),
             [v for critic in reference.critics for v in critic.values], strict=True),
        *zip(learner.target_critics.parameters(),
             [v for critic in reference.targets for v in critic.values], strict=True),
        (learner.log_temperatures, reference.log_temperatures),
    ]  # fmt: skip
    for found, expected in pairs:
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-6, atol=1e-6)
    moved = [(a - b).abs().max() for a, b in zip(start, reference.actor.values, strict=True)]
    assert all(float(distance.detach()) > 1e-3 for distance in moved)


def test_tasks_do_not_see_each_other() -> None:
    """Other tasks' examples change neither the losses nor the gradients of a task."""
    learner = make_learner()
    batch, noise = make_batch(1), torch.randn(TASKS, COUNT, ACTIONS, dtype=torch.float64)
    targets = learner.compute_targets(batch, noise)
    other = Transitions(*(values.clone() for values in batch))
    for values in other:
        values[1:] += 1
    changed = learner.compute_targets(other, noise)
    assert torch.equal(changed[0], targets[0])
    assert not torch.equal(changed[1], targets[1])
    losses = learner.compute_critic_losses(batch, targets)
    assert torch.equal(learner.compute_critic_losses(other, targets)[0], losses[0])


def test_noise_is_independent_per_task_and_example() -> None:
    torch.manual_seed(0)
    noise = make_learner(replace(SMALL, tasks=2)).draw_noise(5000).flatten(1)
    assert noise.shape == (2, 5000 * ACTIONS)
    assert abs(float(torch.corrcoef(noise)[0, 1])) < 0.03
    assert len(noise.unique()) == noise.numel()


def test_temperatures_are_never_weighted() -> None:
    """Their steps depend on their own losses alone."""
    found = []
    for name in ("ls", "fairgrad", "cagrad"):
        learner = make_learner(name=name)
        torch.manual_seed(0)
        learner.update(make_batch(1))
        found.append(learner.log_temperatures.detach().clone())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_truncated_episodes_continue_in_the_targets() -> None:
    learner = make_learner()
    batch = make_batch(1)._replace(ended=torch.ones(TASKS, COUNT, dtype=torch.float64))
    noise = torch.zeros(TASKS, COUNT, ACTIONS, dtype=torch.float64)
    assert torch.equal(learner.compute_targets(batch, noise), batch.rewards)
    truncated = batch._replace(ended=torch.zeros_like(batch.ended))
    assert not torch.equal(learner.compute_targets(truncated, noise), batch.rewards)


@pytest.mark.parametrize("name", make_every_weighting())
def test_every_weighting_updates_and_resumes(name: str) -> None:
    """Losses of either sign leave all numbers finite; a restored state takes the same steps."""
    learner, again = make_learner(name=name), make_learner(name=name, seed=9)
    for step in range(6):
        torch.manual_seed(step)
        learner.update(make_batch(step))
        if step == 3:
            again.load_state_dict(deepcopy(learner.state_dict()))  # as a file does
        elif step > 3:
            torch.manual_seed(step)
            again.update(make_batch(step))
    for a, b in zip(learner.actor.parameters(), again.actor.parameters(), strict=True):
        assert torch.isfinite(a).all()
        assert torch.equal(a, b)
    for a, b in zip(learner.critics.parameters(), again.critics.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["famo", "uw", "si"])
def test_weightings_by_loss_sizes_see_positive_losses(name: str) -> None:
    learner = make_learner(name=name)
    for step in range(5):
        batch = make_batch(step)
        result = learner.update(batch._replace(rewards=batch.rewards + 50))
    assert result.actor.weights is not None
    assert (result.actor.weights > 0).all()
    assert torch.isfinite(result.actor.weights).all()
