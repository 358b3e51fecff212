"""The replay memory."""

import torch

from core.reinforcement.replay import Replay, Transitions, count_replay_bytes

TASKS, CAPACITY = 2, 5


def make_transitions(number: int) -> Transitions:
    """Return transitions that carry their task and number."""
    of_task = torch.tensor([100.0 * k + number for k in range(TASKS)])
    ended = torch.full((TASKS,), float(number % 2))
    wide = of_task[:, None].expand(TASKS, 3)
    return Transitions(wide, wide[:, :1], of_task, wide + 0.5, ended)


def fill(count: int, dtype: torch.dtype = torch.float32) -> Replay:
    replay = Replay(TASKS, CAPACITY, 3, 1, dtype=dtype)
    for number in range(count):
        replay.add_transitions(make_transitions(number))
    return replay


def test_every_task_has_its_exact_share_and_the_latest_transitions() -> None:
    torch.manual_seed(0)
    for count in (1, 3, CAPACITY, CAPACITY + 3):
        replay = fill(count)
        assert len(replay) == min(count, CAPACITY)
        drawn = replay.draw_transitions(400)
        assert drawn.observations.shape == (TASKS, 400, 3)
        for task in range(TASKS):
            expected = {100.0 * task + number for number in range(max(0, count - CAPACITY), count)}
            assert set(drawn.rewards[task].tolist()) == expected
        assert torch.equal(drawn.observations[..., 0], drawn.rewards)
        assert torch.equal(drawn.actions[..., 0], drawn.rewards)
        assert torch.equal(drawn.next_observations[..., 0], drawn.rewards + 0.5)
        assert torch.equal(drawn.ended, drawn.rewards % 2)


def test_draws_are_uniform_and_independent_per_task() -> None:
    torch.manual_seed(1)
    drawn = fill(4).draw_transitions(8000).rewards
    for task, rewards in enumerate(drawn):
        counts = torch.bincount((rewards - 100 * task).long(), minlength=4)
        assert (counts - 2000).abs().max() < 250
    assert abs(float(torch.corrcoef(drawn)[0, 1])) < 0.05


def test_restored_replay_goes_on_as_before() -> None:
    for count in (3, CAPACITY + 2):
        replay, again = fill(count), Replay(TASKS, CAPACITY, 3, 1)
        again.load_state_dict(replay.state_dict())
        for each in (replay, again):
            each.add_transitions(make_transitions(77))
        torch.manual_seed(2)
        first = replay.draw_transitions(50)
        torch.manual_seed(2)
        for values, expected in zip(again.draw_transitions(50), first, strict=True):
            assert torch.equal(values, expected)


def test_bytes_are_those_of_its_tensors() -> None:
    replay = fill(CAPACITY)
    stored = [v for v in replay.state_dict().values() if isinstance(v, torch.Tensor)]
    assert count_replay_bytes(TASKS, CAPACITY, 3, 1) == sum(v.nbytes for v in stored)
