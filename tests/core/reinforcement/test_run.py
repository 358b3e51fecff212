"""Training runs in the simulator."""

import importlib
import multiprocessing
import sys
from contextlib import suppress
from copy import deepcopy
from ctypes.util import find_library
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

import datasets
from common.errors import UserError, ValidationErrors
from common.hyperparameters import Scalar
from core.__main__ import main
from core.environment import detect_environment
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import resolve_method
from core.recipe.trial_key import TrialKey
from core.reinforcement.collector import Collector, draw_random_actions
from core.reinforcement.run import ReinforcementRun
from core.reinforcement.video import write_video
from datasets.environments.config import REINFORCEMENT_FIELDS
from datasets.environments.rendering import check_graphics_setting, choose_graphics_library
from datasets.environments.simulator import import_metaworld
from datasets.environments.simulators import Goal
from tests.conftest import ENVIRONMENTS
from tests.support.simulator import needs_simulator

SMALL: dict[str, Scalar] = {
    "epochs": 3, "epoch_steps": 12, "start_steps": 6, "width": 8, "depth": 1, "batch_size": 64,
    "evaluation_goals": 1, "capacity": 20, "horizon": 5,
}  # fmt: skip
RUN_HERE = ("ls", "pcgrad", "cagrad", "imtl", "nashmtl", "famo", "fairgrad", "upgrad", "uw",
            "dro_tasks")  # fmt: skip
TWO = "reach-v3+drawer-close-v3"


def make_key(method: str = "ls", dataset: str = "mt1", seed: int = 0, **values: Scalar) -> TrialKey:
    given = {**SMALL, **({"task": TWO} if dataset == "mt1" else {}), **values}
    resolved = resolve_method(load_method(method), datasets.load_benchmark(dataset))
    return resolved.make_key(given, seed, detect_environment(gpu=False))


def make_run(method: str = "ls", **values: Any) -> ReinforcementRun:
    return ReinforcementRun(make_key(method, **values), datasets.load_benchmark("mt1"))


def without_time(run: ReinforcementRun) -> dict[str, Any]:
    row = run.train_epoch().as_dict()
    del row["seconds"]
    return row


@pytest.mark.parametrize("dataset", ENVIRONMENTS)
@pytest.mark.parametrize("method", RUN_HERE)
def test_methods_have_a_key_that_is_decoded(method: str, dataset: str) -> None:
    key = make_key(method, dataset)
    assert TrialKey.from_dict(key.as_dict()) == key
    assert TrialKey.from_dict(key.as_dict()).digest == key.digest


@pytest.mark.parametrize("method", sorted(set(list_methods()) - set(RUN_HERE)))
def test_other_methods_run_or_are_refused_with_a_reason(method: str) -> None:
    with suppress(UserError, ValidationErrors):
        key = make_key(method)
        assert [part.name for part in key.recipe.objectives] == ["task_losses"]
        return
    with pytest.raises((UserError, ValidationErrors), match=rf"{method}.*(needs|expected)"):
        make_key(method)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"momentum": 0.5}, "momentum: received 0.5.*reinforcement learning does not use it"),
        ({"horizon": 501}, "horizon: received 501"),
        ({"protocol": "v1"}, "protocol: received 'v1'"),
        ({"task": "reech-v3"}, "did you mean 'reach-v3'"),
        ({"discont": 0.9}, "did you mean 'discount'"),
    ],
)
def test_wrong_values_are_one_message(values: dict[str, Any], message: str) -> None:
    with pytest.raises((UserError, ValidationErrors), match=message):
        make_key(**values)


def test_supervised_data_sets_refuse_fields_of_reinforcement_learning() -> None:
    resolved = resolve_method(load_method("ls"), datasets.load_benchmark("two_digits"))
    with pytest.raises(ValidationErrors, match="discount"):
        resolved.check_values({"discount": 0.9})


def test_replay_larger_than_memory_is_refused() -> None:
    with pytest.raises(UserError, match=r"capacity: received 1,000,000,000.*GB"):
        make_run(capacity=1_000_000_000)


@needs_simulator
def test_next_observations_are_of_their_own_episode() -> None:
    """The last step of an episode has its own next observation, and has not ended."""
    goals = [[Goal(10_000, number) for number in range(3)]]
    collector = Collector(["reach-v3"], "v2", 0)
    collector.begin_training(goals, [torch.Generator().manual_seed(0)], horizon=4)
    steps = [collector.take_step(draw_random_actions) for _ in range(9)]
    for number, (now, following) in enumerate(pairwise(steps), start=1):
        continues = torch.equal(now.next_observations, following.observations)
        assert continues == (number % 4 != 0)
    assert not any(step.ended.any() for step in steps)
    assert len({tuple(steps[i].observations[0, 36:].tolist()) for i in (0, 4, 8)}) > 1


@needs_simulator
def test_every_goal_is_visited_once_in_evaluation() -> None:
    goals = [[Goal(20_000, number) for number in range(50)]]
    seen = []
    collector = Collector(["reach-v3"], "v2", 0)

    def policy(observations: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(observations[0, 36:].tolist()))
        return torch.zeros(1, 4)

    (episodes,) = collector.evaluate_goals(goals, policy, horizon=2)
    assert len(set(seen)) == 50
    assert episodes.success.shape == episodes.returns.shape == (50,)


@needs_simulator
@pytest.mark.parametrize("method", ["famo", "fairgrad"])
def test_resumed_runs_compute_the_same_numbers(method: str) -> None:
    run = make_run(method)
    first = without_time(run)
    state = deepcopy(run.make_state())
    rows = [without_time(run) for _ in range(2)]
    again = make_run(method)
    assert again.can_resume(state)
    again.load_state(state)
    assert [without_time(again) for _ in range(2)] == rows
    assert first["steps"] == 6
    assert rows[0]["steps"] == 12
    assert set(first["losses"]) == {
        f"{part}_{task}" for part in ("critic", "actor") for task in TWO.split("+")
    }
    assert run.evaluate_split("test").compute_metrics().keys() == first["validation"].keys()


@needs_simulator
def test_numbers_do_not_depend_on_the_processes_of_simulators() -> None:
    rows = []
    for per_process in (1, 2):
        run = make_run(envs_per_worker=per_process)
        rows.append([without_time(run) for _ in range(2)])
    assert rows[0] == rows[1]


@needs_simulator
@pytest.mark.parametrize("start_steps", [0, 6])
def test_asynchronous_runs_resume_and_differ_from_others(start_steps: int) -> None:
    def make() -> ReinforcementRun:
        return make_run(asynchronous=True, start_steps=start_steps)

    run, again = make(), make()
    first = without_time(run)
    again.load_state(deepcopy(run.make_state()))
    assert without_time(again) == without_time(run)
    assert first["steps"] == 12 - start_steps
    assert first["losses"] != without_time(make_run(start_steps=start_steps))["losses"]


@needs_simulator
def test_end_of_a_process_of_simulators_is_noticed() -> None:
    before = multiprocessing.active_children()
    collector = Collector(TWO.split("+"), "v2", 0, per_process=1)
    goals = [[Goal(10_000, 0)], [Goal(10_010, 0)]]
    collector.begin_training(goals, [torch.Generator() for _ in goals], horizon=4)
    collector.take_step(draw_random_actions)
    first, second = set(multiprocessing.active_children()) - set(before)
    first.kill()
    first.join()
    with pytest.raises(RuntimeError, match="process of simulators has ended"):
        collector.take_step(draw_random_actions)
    del collector
    second.join(timeout=60)
    assert second.exitcode == 0


@needs_simulator
def test_errors_of_processes_of_simulators_are_raised_here() -> None:
    collector = Collector(["reach-v3", "no-task"], "v2", 0, per_process=1)
    with pytest.raises(KeyError, match="no-task"):
        collector.evaluate_goals([[Goal(1, 0)], [Goal(1, 0)]], draw_random_actions, horizon=1)


@needs_simulator
def test_state_without_replay_cannot_be_resumed_but_evaluated() -> None:
    run, other = make_run(keep_replay=False), make_run(keep_replay=False)
    run.train_epoch()
    state = deepcopy(run.make_state())
    assert not other.can_resume(state)
    other.load_state(state)
    for a, b in zip(run.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


@needs_simulator
def test_seeds_differ_and_protocols_train(capsys: pytest.CaptureFixture[str]) -> None:
    assert without_time(make_run(seed=0)) != without_time(make_run(seed=1))
    command = ["--method", "fairgrad", "--dataset", "mt1", "--test", "--epochs", "1"]
    for name, value in {**SMALL, "protocol": "system2", "task": TWO, "reward": "v1"}.items():
        command += [] if name == "epochs" else ["--set", f"{name}={value}"]
    assert main([*command, "--device", "cpu"]) == 0
    assert "worst_task_success" in capsys.readouterr().out


def test_methods_have_no_hyperparameter_of_the_name_of_a_field() -> None:
    """One value would set both: FAMO's gamma was the discount."""
    for name in list_methods():
        method = load_method(name)
        assert not {*method.search, *method.options} & set(REINFORCEMENT_FIELDS), name


def test_rendering_an_unknown_task_or_data_set_is_one_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = ["--method", "ls", "--epochs", "1", "--device", "cpu", "--set", "capacity=9"]
    for dataset, task, message in (
        ("mt1", "reech-v3", "did you mean 'reach-v3'"),
        ("two_digits", "reach-v3", "is in no simulator"),
    ):
        settings = run if dataset == "mt1" else run[:-2]
        assert main([*settings, "--dataset", dataset, "--render", task]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_machine_without_graphics_library_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr("datasets.environments.rendering.LIBRARIES", {"egl": "NoSuchLibrary"})
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    with pytest.raises(UserError, match=r"neither EGL nor OSMesa.*install libegl1"):
        choose_graphics_library()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nonsense", "MUJOCO_GL: unknown graphics library 'nonsense'.*known: egl, glfw"),
        ("EGL2", r"did you mean 'egl'"),
        ("osmesa", "MUJOCO_GL is osmesa, but OSMesa is not on this machine: install libosmesa6"),
    ],
)
def test_a_graphics_library_that_is_not_there_is_one_message(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    monkeypatch.setenv("MUJOCO_GL", value)
    monkeypatch.setattr("datasets.environments.rendering.has_library", lambda _: False)
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    for read in (choose_graphics_library, import_metaworld):
        with pytest.raises(UserError, match=message):
            read()


@pytest.mark.parametrize(
    ("value", "message"), [("off", "which draws nothing"), ("glfw", "which needs a screen")]
)
def test_a_setting_that_cannot_draw_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    monkeypatch.setenv("MUJOCO_GL", value)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    check_graphics_setting()
    with pytest.raises(UserError, match=f"MUJOCO_GL is {value}, {message}"):
        choose_graphics_library()
    if value == "glfw":
        monkeypatch.setenv("DISPLAY", ":0")
        choose_graphics_library()


@needs_simulator
@pytest.mark.skipif(not find_library("EGL"), reason="needs EGL")
def test_video_of_an_episode_has_frames_that_differ(tmp_path: Path) -> None:
    run = make_run(protocol="system2", task="reach-v3")
    choose_graphics_library()
    drawn_by = importlib.import_module("mujoco.gl_context").GLContext.__module__
    if not drawn_by.endswith("egl"):
        pytest.skip(f"another test imported the simulator, which draws by {drawn_by}")
    write_video(run, "reach-v3", tmp_path / "reach.gif")
    with Image.open(tmp_path / "reach.gif") as video:
        assert isinstance(video, GifImageFile)
        assert (video.n_frames, video.size) == (19, (320, 240))
        first = video.convert("RGB").tobytes()
        video.seek(18)
        assert video.convert("RGB").tobytes() != first
