"""Benchmarks in a simulator: what holds without it, and what it does."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import datasets
from common.errors import UserError
from datasets.benchmark import SPLITS
from datasets.environments import simulator
from datasets.environments.base import ACTION_SIZE, OBSERVATION_SIZE, EnvironmentBenchmark
from datasets.environments.config import REINFORCEMENT_RULES
from datasets.environments.simulator import INSTALL, TaskSimulator, import_metaworld, list_goals
from datasets.environments.task_names import MT10, MT25, MT50
from tests.conftest import ENVIRONMENTS
from tests.support.simulator import needs_simulator


def load(name: str) -> EnvironmentBenchmark:
    benchmark = datasets.load_benchmark(name)
    assert isinstance(benchmark, EnvironmentBenchmark)
    return benchmark


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_contract(name: str) -> None:
    benchmark = load(name)
    assert benchmark.name == name
    assert set(benchmark.splits) == set(SPLITS)
    values = benchmark.training_config.as_dict()
    for hyperparameter_name, hyperparameter in benchmark.search_space.items():
        assert values[hyperparameter_name] == hyperparameter.default
    for field, rule in REINFORCEMENT_RULES.items():
        assert rule.find_broken_rule(values[field]) is None, field
    assert set(benchmark.reported_metrics) <= set(benchmark.higher_is_better)
    assert all(split.nbytes for split in benchmark.splits.values())
    assert "do not compare" in " ".join(benchmark.card.notes)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_goals_of_splits_and_tasks_are_disjoint(name: str) -> None:
    """50 goals per task and split, and no seed of goals is used by two of them."""
    benchmark = load(name)
    seeds = {}
    for split in SPLITS:
        rows = benchmark.splits[split].inputs[torch.arange(len(benchmark.splits[split]))]
        assert rows.shape == (50 * len(benchmark.tasks), 3)
        assert len(rows.unique(dim=0)) == len(rows)
        for task in range(len(benchmark.tasks)):
            own = rows[rows[:, 0] == task]
            (seed,) = own[:, 1].unique().tolist()
            assert sorted(own[:, 2].tolist()) == list(range(50))
            seeds[split, task] = seed
    assert len(set(seeds.values())) == len(seeds)


def test_system2_protocol_trains_and_evaluates_one_goal() -> None:
    benchmark = load("mt10")
    made = benchmark.configure(replace(benchmark.training_config, protocol="system2"))
    found = [made.splits[split].inputs[torch.arange(10)].tolist() for split in SPLITS]
    assert found[0] == found[1] == found[2]
    assert all(len(made.splits[split]) == 10 for split in SPLITS)
    assert made.evaluation_horizon == 150
    config = made.config.apply_protocol()
    assert (config.horizon, config.sharing, config.shared_temperature) == (150, "all", True)


def test_meter_counts_tasks_alike_and_finds_the_worst() -> None:
    benchmark = load("mt1")
    two = benchmark.configure(
        replace(benchmark.training_config, task="reach-v3+push-v3", evaluation_goals=4)
    )
    meter = two.make_meter("validation")
    for rows, success in ((torch.arange(4), 1.0), (torch.tensor([5, 4]), 0.0)):
        values = {"success": torch.full((len(rows),), success), "return": rows.float()}
        meter.update(rows, values, {})
    found = meter.compute_metrics()
    assert (found["success"], found["worst_task_success"]) == (0.5, 0.0)
    assert (found["success_reach-v3"], found["return_push-v3"]) == (1.0, 4.5)
    assert set(found) == set(two.higher_is_better)
    columns = meter.collect_predictions()
    assert columns["index"].tolist() == [0, 1, 2, 3, 4, 5]
    assert columns["return"].tolist() == [0, 1, 2, 3, 4, 5]
    assert columns["task"].tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("mt1", "reech-v3", "did you mean 'reach-v3'"),
        ("mt1", "", "unknown task ''"),
        ("mt1", "reach-v3+reach-v3", "names a task twice"),
        ("mt10", "reach-v3", "mt1 takes a task"),
    ],
)
def test_wrong_tasks_are_refused(name: str, task: str, message: str) -> None:
    benchmark = load(name)
    with pytest.raises(UserError, match=message):
        benchmark.configure(replace(benchmark.training_config, task=task))


def test_missing_simulator_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "metaworld", None)
    with pytest.raises(UserError) as found:
        load("mt10").check_requirements()
    assert str(found.value).endswith(INSTALL)
    assert "\n" not in str(found.value)


@needs_simulator
def test_names_are_the_library_own() -> None:
    known = import_metaworld().env_dict
    assert (*known.MT10_V3,) == MT10
    assert (*known.MT25_V3,) == MT25
    assert (*known.MT50_V3,) == MT50


def collect(task: TaskSimulator, goal: object, steps: int, seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    rows = [task.begin_episode(goal)]
    for _ in range(steps):
        result = task.take_step(random.uniform(-1, 1, ACTION_SIZE).astype(np.float32))
        rows.append(np.append(result.observation[:-1], result.reward).astype(np.float32))
    return np.stack(rows)


@needs_simulator
@pytest.mark.parametrize("name", ["reach-v3", "drawer-close-v3", "peg-insert-side-v3"])
def test_episode_depends_on_goal_and_actions_alone(name: str) -> None:
    """Neither earlier episodes, nor the simulator's seed, nor global generators change it."""
    goals = list_goals(name, 10_000)
    used, new = TaskSimulator(name, "v2", 0), TaskSimulator(name, "v2", 1)
    first = collect(used, goals[0], 30, seed=3)
    assert first.shape == (31, OBSERVATION_SIZE)
    collect(used, goals[7], 20, seed=4)
    np.random.seed(5)
    assert np.array_equal(collect(used, goals[0], 30, seed=3), first)
    assert np.array_equal(collect(new, goals[0], 30, seed=3), first)
    assert not np.array_equal(collect(used, goals[1], 30, seed=3), first)
    used.close()
    new.close()


@needs_simulator
def test_goals_are_distinct_and_global_generators_stay() -> None:
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    simulator.list_goals.cache_clear()
    vectors = {
        seed: [goal.data for goal in list_goals("reach-v3", seed)]
        for seed in (10_043, 20_043, 30_043)
    }
    assert np.random.random() == expected
    for goals in vectors.values():
        assert len(set(goals)) == 50
    for first, second in combinations(vectors.values(), 2):
        assert not set(first) & set(second)


@needs_simulator
def test_observations_have_the_goal_and_rewards_their_version() -> None:
    goals = list_goals("reach-v3", 10_000)
    rewards = []
    for version in ("v1", "v2"):
        task = TaskSimulator("reach-v3", version, 0)
        assert task.begin_episode(goals[0])[-3:].any()
        rewards.append(task.take_step(np.ones(ACTION_SIZE, np.float32)).reward)
        task.close()
    assert rewards[0] != rewards[1]
