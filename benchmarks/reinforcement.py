"""Time of an update of soft actor-critic by weighting, and the shares of a step's parts.

Each update's lowest time and its median ratio to that of ``ls`` in the same turn are printed.

``python -m benchmarks.reinforcement`` needs no simulator for the updates; the shares need
requirements-metaworld.txt. ``--device cuda`` prints updates per second with and without the graph.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from common.cpus import count_cpus
from core.reinforcement.collector import Collector, draw_random_actions
from core.reinforcement.learner import Learner, LearnerConfig
from core.reinforcement.replay import Replay, Transitions
from core.reinforcement.updater import WARM_UP_UPDATES, Updater
from core.weighting import load_weighting
from datasets.environments.base import ACTION_SIZE, GOAL_SEEDS, OBSERVATION_SIZE
from datasets.environments.simulators import Goal
from datasets.environments.task_names import MT10, MT50

BATCHES = {10: 128, 50: 26}  # transitions per task of an update, by tasks
WEIGHTINGS = ("ls", "pcgrad", "cagrad", "fairgrad", "fairgrad_sgd20")


def make_learner(tasks: int, name: str, device: str) -> Learner:
    torch.manual_seed(0)
    config = LearnerConfig(tasks, OBSERVATION_SIZE, ACTION_SIZE)
    first, second = load_weighting(name), load_weighting(name)
    return Learner(config, first, second, [str(number) for number in range(tasks)], device)


def draw_batch(tasks: int, count: int, device: str) -> Transitions:
    def draw(*size: int) -> torch.Tensor:
        return torch.randn(tasks, count, *size, device=device)

    wide = (OBSERVATION_SIZE,)
    return Transitions(draw(*wide), draw(ACTION_SIZE).tanh(), draw(), draw(*wide), draw() * 0)


def measure_seconds(work: Callable[[], object], repeats: int, device: str) -> float:
    """Return seconds per call: of the process on a CPU, where others disturb the clock's."""
    read_clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    start = read_clock()
    for _ in range(repeats):
        work()
    if device != "cpu":
        torch.cuda.synchronize()
    return (read_clock() - start) / repeats


def time_updates(device: str, repeats: int) -> None:
    for tasks, count in BATCHES.items():
        batch = draw_batch(tasks, count, device)
        learners = {name: make_learner(tasks, name, device) for name in WEIGHTINGS}
        found: dict[str, list[float]] = {name: [] for name in learners}
        for learner in learners.values():
            learner.update(batch)
        for _ in range(repeats):  # in turns, so that all meet the same disturbances
            for name, learner in learners.items():
                found[name].append(measure_seconds(partial(learner.update, batch), 3, device))
        for name, times in found.items():
            # Of pairs in the same turn: the lowest times of two may be of different disturbances.
            ratio = median(one / other for one, other in zip(times, found["ls"], strict=True))
            print(f"MT{tasks}, {count} per task, {name:15} {min(times) * 1e3:7.1f} ms  {ratio:.2f}")


def time_graphs(repeats: int) -> None:
    """Print updates per second of drawing and updating, with the graph and without."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for tasks, count in BATCHES.items():
        replay = fill_replay(tasks, "cuda")
        for name in WEIGHTINGS:
            rates = {}
            for use_graph in (False, True):
                learner = make_learner(tasks, name, "cuda")
                updater = Updater(learner, replay, count, use_graph)
                for _ in range(WARM_UP_UPDATES + 2):  # makes the graph too
                    updater.update()
                torch.cuda.synchronize()
                found = [measure_seconds(updater.update, 20, "cuda") for _ in range(repeats)]
                if updater.uses_graph or not use_graph:
                    rates[use_graph] = 1 / min(found)
            text = f"MT{tasks}, {name:15} {rates[False]:8.1f} updates/s without graph"
            if True in rates:
                text += f" {rates[True]:8.1f} with  {rates[True] / rates[False]:5.2f} times"
            print(text, flush=True)


def fill_replay(tasks: int, device: str, count: int = 1000) -> Replay:
    replay = Replay(tasks, count, OBSERVATION_SIZE, ACTION_SIZE, device)
    batch = draw_batch(tasks, count, device)
    for number in range(count):
        replay.add_transitions(Transitions(*(values[:, number] for values in batch)))
    return replay


def make_collector(per_process: int) -> Collector:
    """Return MT10's simulators at the start of episodes."""
    collector = Collector(MT10, "v2", 0, per_process)
    goals = [[Goal(GOAL_SEEDS["train"] + MT50.index(task), 0)] for task in MT10]
    generators = [torch.Generator().manual_seed(0) for _ in MT10]
    collector.begin_training(goals, generators, 500)
    return collector


def time_processes(steps: int) -> None:
    """Print the environment steps per second of MT10, by the processes that share its tasks."""
    processes = [count for count in (1, 2, 5, 10) if count <= count_cpus()]
    collectors = [make_collector(len(MT10) // count) for count in processes]
    found: list[list[float]] = [[] for _ in processes]
    for _ in range(5):
        for collector, times in zip(collectors, found, strict=True):
            start = time.perf_counter()
            for _ in range(steps):
                collector.take_step(draw_random_actions)
            times.append((time.perf_counter() - start) / steps)
    for count, times in zip(processes, found, strict=True):
        rate, ratio = len(MT10) / min(times), min(found[0]) / min(times)
        print(f"MT10 in {count:2} processes: {rate:,.0f} environment steps per second, {ratio:.2f}")


def time_parts(device: str, steps: int) -> None:
    """Print the shares of simulator, acting and learning of a step of MT10 with FairGrad."""
    learner = make_learner(10, "fairgrad", device)
    replay = Replay(10, 1000, OBSERVATION_SIZE, ACTION_SIZE, device)
    collector = make_collector(len(MT10))

    def take_step() -> None:
        replay.add_transitions(collector.take_step(draw_random_actions))

    simulator = measure_seconds(take_step, steps, device)
    observations = torch.randn(10, 1, OBSERVATION_SIZE, device=device)
    acting = measure_seconds(lambda: learner.choose_actions(observations, False), steps, device)
    learning = measure_seconds(lambda: learner.update(replay.draw_transitions(128)), 10, device)
    total = simulator + acting + learning
    for name, seconds in (("simulator", simulator), ("acting", acting), ("learning", learning)):
        print(f"MT10, {name:9} {seconds * 1e3:7.2f} ms  {seconds / total:.1%}")
    print(f"MT10, bare loop: {10 / simulator:,.0f} environment steps per second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    time_updates(args.device, args.repeats)
    if args.device == "cuda":
        time_graphs(args.repeats)
    if importlib.util.find_spec("metaworld") is not None:
        time_parts(args.device, 200)
        time_processes(80)


if __name__ == "__main__":
    main()
