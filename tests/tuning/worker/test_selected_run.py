"""``python -m core`` chooses the epoch of a confirmation seed, with the same test metrics."""

import json
from pathlib import Path
from typing import Any

import pytest

import datasets
from core.__main__ import main
from core.constant_prediction import measure_constant_predictions
from core.training.selection import get_rule
from tests.support.run_records import confirmation_of, end_of
from tests.tuning.worker.test_recorded_run import finish, folders, work
from tuning.worker.trial_runner import TrialRunner

AVERAGE = "validation_average_accuracy"
ORACLE = "oracle_test_worst_group_accuracy"


@pytest.mark.parametrize(
    ("method", "config", "rule"),
    [
        ("erm", {}, AVERAGE),
        ("erm", {"epochs": 6, "patience": 1, "lr": 0.1}, ""),
        ("jtt", {"T": 1, "up": 4}, ""),
        ("dfr", {}, ""),
        ("erm", {}, ORACLE),
    ],
)
def test_the_command_gives_the_result_of_a_confirmation_seed(
    method: str,
    config: dict[str, Any],
    rule: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: dict[str, Any] = {"rule": rule, "audit": rule == ORACLE} if rule else {}
    benchmark = datasets.load_benchmark("colored_digits")
    selecting = get_rule(rule or benchmark.default_selection_rule)
    constants = measure_constant_predictions(benchmark, [selecting])
    asked["constant_metric"] = constants[selecting.name]
    given = work(tmp_path, method=method, config=config, confirm=True, **asked)
    finish(TrialRunner(given))
    (record,) = folders(given)
    settings = {"epochs": 3, **config}
    command = ["--method", method, "--dataset", "colored_digits", "--test", "--json"]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    capsys.readouterr()
    assert main([*command, *(["--select", rule] if rule else [])]) == 0
    *rows, test, chosen = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = confirmation_of(record)
    assert len(rows) - 1 == len(end_of(record).rows)
    assert test["test"] == expected.test
    assert chosen["chosen"]["epoch"] == expected.epoch
    metric = (rule or "validation_worst_group_accuracy").partition("_")[2].removeprefix("test_")
    assert chosen["chosen"]["test"] == expected.test[metric]


def test_the_choice_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--method", "erm", "--dataset", "colored_digits", "--epochs", "1"]
    assert main(command) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("chosen: epoch 1, validation 0.")
    assert main([*command, "--select", "validation_delta_m"]) == 2
    assert "data set 'colored_digits' does not report delta_m" in capsys.readouterr().err
    assert main([*command, "--select", "validation_average"]) == 2
    assert "--select: unknown rule" in capsys.readouterr().err
