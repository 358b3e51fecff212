"""Updates that a CUDA graph can hold: without host values, in memory that stays."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.recipe.component import component_classes
from core.reinforcement.learner import Learner, LearnerConfig, UpdateResult
from core.reinforcement.replay import Replay, Transitions
from core.reinforcement.updater import Updater, join_result, keep_buffers_in_place, split_result
from core.weighting import load_weighting
from core.weighting.device_only import stay_on_device

TASKS, OBSERVATIONS, ACTIONS, COUNT = 3, 5, 2, 4
CONFIG = LearnerConfig(TASKS, OBSERVATIONS, ACTIONS, width=7, critic_width=9, depth=2, lr=3e-3)
WEIGHTINGS = sorted(component_classes("weighting"))


def make_learner(name: str, device: str, **parameters: Any) -> tuple[Learner, Replay]:
    torch.manual_seed(0)
    first, second = (load_weighting(name, **parameters) for _ in range(2))
    learner = Learner(CONFIG, first, second, ["a", "b", "c"], device, torch.float64)
    replay = Replay(TASKS, 20, OBSERVATIONS, ACTIONS, device, torch.float64)
    random = torch.Generator().manual_seed(1)

    def draw(*size: int) -> Tensor:
        return torch.randn(TASKS, *size, generator=random, dtype=torch.float64).to(device)

    for _ in range(20):
        wide = (OBSERVATIONS,)
        replay.add_transitions(
            Transitions(draw(*wide), draw(ACTIONS).tanh(), draw() * 5, draw(*wide), draw() * 0)
        )
    return learner, replay


def read_state(learner: Learner) -> list[Tensor]:
    """Return every tensor that an update reads or writes, in order."""
    found: list[Tensor] = [learner.log_temperatures, learner.lowest_losses.values]
    for part in (learner.actor, learner.critics, learner.target_critics):
        found += part.parameters()
    for weighting in (learner.actor_weighting, learner.critic_weighting):
        found += [*weighting.parameters(), *weighting.buffers()]
    for optimizer in (learner.actor_optimizer, learner.critic_optimizer):
        found += [t for state in optimizer.state.values() for t in state.values()]
    return found


@pytest.mark.parametrize(
    ("name", "parameters"),
    [*((name, {}) for name in WEIGHTINGS), ("sdmgrad", {"iterations": 20}),
     ("nashmtl", {"update_interval": 2})],
)  # fmt: skip
def test_capturable_weightings_read_no_value_on_the_host(
    name: str, parameters: dict[str, Any]
) -> None:
    """A meta tensor has no value: whatever would wait for a device raises."""
    learner, replay = make_learner(name, "meta", **parameters)
    with stay_on_device():
        if learner.critic_weighting.has_fixed_kernels:
            for _ in range(2):
                result = learner.update(replay.draw_transitions(COUNT))
            assert all(tensor.is_meta for tensor in read_state(learner) if tensor.ndim)
            assert result.critic.weights is None or result.critic.weights.shape == (TASKS,)
        elif name == "nashmtl":  # counts steps on the host, and solves on the device
            learner.update(replay.draw_transitions(COUNT))
        else:
            with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
                learner.update(replay.draw_transitions(COUNT))


@pytest.mark.parametrize("name", [n for n in WEIGHTINGS if load_weighting(n).has_fixed_kernels])
def test_state_keeps_its_memory_and_its_numbers(name: str) -> None:
    learner, replay = make_learner(name, "cpu")
    other, _ = make_learner(name, "cpu")
    modules: tuple[nn.Module, ...] = (learner.actor_weighting, learner.critic_weighting)
    for step in range(6):
        if step == 2:
            places = [tensor.data_ptr() for tensor in read_state(learner)]
        torch.manual_seed(step)
        other.update(replay.draw_transitions(COUNT))
        torch.manual_seed(step)
        with keep_buffers_in_place(modules):
            learner.update(replay.draw_transitions(COUNT))
    assert [tensor.data_ptr() for tensor in read_state(learner)] == places
    for tensor, expected in zip(read_state(learner), read_state(other), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["ls", "pcgrad", "graddrop"])
def test_results_are_joined_and_split(name: str) -> None:
    result = Updater(*make_learner(name, "cpu"), COUNT).update()
    again = split_result(result, join_result(result))
    assert torch.equal(join_result(again), join_result(result))
    assert again.actor_losses.tolist() == result.actor_losses.tolist()
    for part, expected in ((again.critic, result.critic), (again.actor, result.actor)):
        assert (part.weights is None, part.gram is None) == (name == "graddrop", name == "ls")
        for found, value in ((part.weights, expected.weights), (part.gram, expected.gram)):
            assert value is None or (found is not None and torch.equal(found, value))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", [n for n in WEIGHTINGS if load_weighting(n).has_fixed_kernels])
def test_graph_computes_the_numbers_of_single_kernels(name: str) -> None:
    found: list[list[UpdateResult]] = []
    states = []
    for use_graph in (True, False):
        learner, replay = make_learner(name, "cuda")
        updater = Updater(learner, replay, COUNT, use_graph)
        assert updater.uses_graph == use_graph
        torch.manual_seed(3)
        found.append([updater.update() for _ in range(10)])
        states.append(read_state(learner))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(join_result(ours), join_result(expected), rtol=1e-6, atol=1e-9)
    for tensor, value in zip(*states, strict=True):
        torch.testing.assert_close(tensor, value, rtol=1e-6, atol=1e-9, equal_nan=True)
