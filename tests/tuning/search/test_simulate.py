"""Simulated searches on artificial records with a known answer."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.hyperparameters import Hyperparameter
from tests.support.epoch_rows import make_row
from tests.support.run_records import define_study, describe_run
from tuning.cli.main import main
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import RunEnd, TrialStatus
from tuning.search.recorded_curves import compute_distance, read_curves
from tuning.search.searchers.grid import GridSearcher
from tuning.search.simulate import SimulatedSearch, make_simulated_searcher, simulate_searches

EPOCHS = 9


def write(folder: Path, count: int, status: TrialStatus = TrialStatus.COMPLETED) -> None:
    """Records of a study in which a learning rate near 0.1 is best and every epoch takes 2 s."""
    records = MethodRecords(folder)
    space = {"lr": Hyperparameter("log_uniform", (0.001, 1.0), 0.1)}
    records.write_definition(define_study(space=space, search="random"))
    for number, lr in enumerate(np.logspace(-3, 0, count)):
        peak = 0.9 - 0.2 * abs(np.log10(lr) + 1)
        rows = [
            make_row(i, worst_group_accuracy=peak * i / EPOCHS, average_accuracy=0.9)
            for i in range(1, EPOCHS + 1)
        ]  # fmt: skip
        run = records.open_run(f"run{number:03d}")
        run.write_description(describe_run(number, lr=float(lr)))
        run.write_end(RunEnd(status, "", rows))


def write_seeds(folder: Path, values: Mapping[int, tuple[float, ...]]) -> None:
    """Records of trials that reach a value on each of their training seeds in the second epoch."""
    records = MethodRecords(folder)
    space = {"lr": Hyperparameter("log_uniform", (0.001, 1.0), 0.1)}
    records.write_definition(define_study(space=space, search="random"))
    for number, reached in values.items():
        for seed, value in enumerate(reached):
            rows = [
                make_row(epoch, worst_group_accuracy=value - 0.1 * abs(epoch - 2))
                for epoch in (1, 2, 3)
            ]
            run = records.open_run(f"run{number:03d}{seed}")
            run.write_description(describe_run(number, lr=10.0 ** (-3 + number / 2)))
            run.write_end(RunEnd(TrialStatus.COMPLETED, "", rows))


def test_a_winner_is_judged_by_the_seed_that_its_search_left_out(tmp_path: Path) -> None:
    steady = dict.fromkeys(range(5), (0.5, 0.5, 0.5))
    write_seeds(tmp_path / "d" / "m", steady | {3: (0.6, 0.6, 0.6), 5: (0.9, 0.9, 0.1)})
    recorded = read_curves(tmp_path / "d" / "m")
    assert [curve.best.value for curve in recorded.curves][3:] == pytest.approx([0.6, 0.5, 1.9 / 3])
    assert all(curve.true_value is None for curve in recorded.curves)
    assert recorded.leave_out(3) == recorded.leave_out(0) != recorded.leave_out(2)
    for seed, (best, true_value) in enumerate([(0.6, 0.6), (0.6, 0.6), (0.9, 0.1)]):
        without = recorded.leave_out(seed)
        winner = max(without.curves, key=lambda curve: curve.best.value)
        assert (winner.best.value, winner.true_value) == pytest.approx((best, true_value))
        assert winner.device_seconds == (4.0,) * 3  # of two seeds, two seconds each
        searcher = GridSearcher([curve.hyperparameters for curve in without.curves])
        found = SimulatedSearch(without, searcher, "none", trials=6, slots=2).run()
        assert (found.value, found.true_value) == pytest.approx((best, true_value))
    table = simulate_searches(tmp_path / "d" / "m", trials=60, repeats=3)
    (header,) = [line for line in table.splitlines() if line.startswith("| search")]
    assert header.count(" | ") == table.splitlines()[3].count(" | ") == 6
    rows = [line.split(" | ") for line in table.splitlines()[4:10]]
    # Searches of so many trials find the best of each two seeds: 0.6, 0.6 and 0.9.
    assert {(row[2], row[3]) for row in rows if "none" in row[1]} == {
        ("0.7000 ± 0.1732", "0.4333 ± 0.2887")
    }
    blind = (4 * 0.5 + 0.6 + 1.9 / 3) / 6
    assert table.endswith(f"each of 3 in turn; of a trial drawn blindly: {blind:.4f}")


def test_times_add_up_without_a_scheduler(tmp_path: Path) -> None:
    write(tmp_path / "d" / "m", 12)
    table = read_curves(tmp_path / "d" / "m")
    found = SimulatedSearch(
        table, make_simulated_searcher("random", table, 0), "none", trials=10, slots=4
    ).run()
    assert found.device_hours == pytest.approx(10 * EPOCHS * 2 / 3600)
    assert found.hours == pytest.approx(3 * EPOCHS * 2 / 3600)  # ten trials, four at once
    assert found.pruned == 0


def test_a_grid_of_recorded_trials_finds_the_best(tmp_path: Path) -> None:
    write(tmp_path / "d" / "m", 12)
    table = read_curves(tmp_path / "d" / "m")
    configs = [curve.hyperparameters for curve in table.curves]
    found = SimulatedSearch(table, GridSearcher(configs), "none", trials=12, slots=3).run()
    assert found.value == max(curve.best.value for curve in table.curves)


def test_asha_saves_time_and_is_repeatable(tmp_path: Path) -> None:
    write(tmp_path / "d" / "m", 30)
    table = read_curves(tmp_path / "d" / "m")
    for name in ("random", "tpe"):
        full = SimulatedSearch(table, make_simulated_searcher(name, table, 1), "none", 30, 4).run()
        short = SimulatedSearch(table, make_simulated_searcher(name, table, 1), "asha", 30, 4).run()
        assert short.pruned > 0
        assert short.device_hours < 0.8 * full.device_hours
        assert (
            short
            == SimulatedSearch(table, make_simulated_searcher(name, table, 1), "asha", 30, 4).run()
        )


def test_promotion_pauses_all_and_stops_at_a_budget(tmp_path: Path) -> None:
    write(tmp_path / "d" / "m", 30)
    table = read_curves(tmp_path / "d" / "m")

    def search_trials(slots: int, budget: float = 1e9) -> dict[int, int]:
        searcher = make_simulated_searcher("random", table, 1)
        search = SimulatedSearch(table, searcher, "asha_promotion", 18, slots, budget)
        outcome = search.run()
        epochs = {trial.number: len(trial.scores) for trial in search.ended}
        assert outcome.device_hours == pytest.approx(2 * sum(epochs.values()) / 3600)
        assert len(epochs) == len(search.ended)
        return epochs

    alone = search_trials(1)
    assert sorted(alone) == list(range(18))
    assert set(alone.values()) == {1, 3, EPOCHS}
    assert [n for n, epochs in alone.items() if epochs > 1] != list(range(6))
    assert all(search_trials(slots) == alone for slots in (2, 5))
    stopped = search_trials(1, budget=40)
    assert 20 <= sum(stopped.values()) <= 20 + EPOCHS


def test_the_table_and_its_skipped_trials(tmp_path: Path) -> None:
    write(tmp_path / "d" / "m", 8)
    records = MethodRecords(tmp_path / "d" / "m")
    run = records.open_run("run999")
    run.write_description(describe_run(99, lr=0.5))
    run.write_end(RunEnd(TrialStatus.PRUNED, "", []))
    table = simulate_searches(tmp_path / "d" / "m", repeats=2)
    assert "8 recorded trials (1 pruned" in table
    assert table.count("\n| random") == table.count("\n| tpe") == 3
    write(tmp_path / "d" / "few", 3)
    with pytest.raises(UserError, match="expected at least 5"):
        read_curves(tmp_path / "d" / "few")
    with pytest.raises(UserError, match="holds no study"):
        read_curves(tmp_path)


def test_distance_is_on_the_hyperparameters_own_scale() -> None:
    hyperparameters = {
        "lr": Hyperparameter("log_uniform", (0.001, 1.0), 0.1),
        "size": Hyperparameter("choice", (16, 32), 16),
    }
    assert compute_distance(hyperparameters, {"lr": 0.01}, {"lr": 0.1}) == pytest.approx(1 / 9)
    assert compute_distance(hyperparameters, {"lr": 0.01, "size": 32}, {"lr": 0.01}) == 1
    assert compute_distance(hyperparameters, {}, {"lr": 0.1, "size": 16}) == 0


def test_a_root_folder_names_the_methods_below_it(tmp_path: Path) -> None:
    write(tmp_path / "d" / "m", 6)
    write(tmp_path / "d" / "other", 6)
    (tmp_path / "d" / "m.txt").touch()
    for folder in (tmp_path, tmp_path / "d"):
        with pytest.raises(UserError, match="holds no study") as refused:
            read_curves(folder)
        named = str(refused.value).split("below it are ")[1].split(", ")
        assert named == [str(tmp_path / "d" / "m"), str(tmp_path / "d" / "other")]
    with pytest.raises(UserError) as refused:
        read_curves(tmp_path / "nowhere")
    assert "below" not in str(refused.value)


def test_options_without_a_meaning_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "d" / "m", 6)
    simulated = ["--simulate", str(tmp_path / "d" / "m"), "--trials", "2"]
    assert main(simulated) == 0
    assert "2 trials" in capsys.readouterr().out
    for option, *values in (
        ["--method", "nope"], ["--dataset", "nope"], ["--set", "x=1"], ["--results", "x"],
        ["--seeds", "5"], ["--resume"], ["--search", "tpe"], ["--max-device-hours", "1"],
    ):  # fmt: skip
        assert main([*simulated, option, *values]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: --simulate accepts only --trials")
        assert f"also received {option}" in captured.err
        assert not captured.out
    assert main([*simulated, "--plan", "--data-root", "x"]) == 2
    assert "also received --data-root, --plan" in capsys.readouterr().err
