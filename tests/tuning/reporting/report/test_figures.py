"""The numbers behind the report's figures, against slow references."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.run_records import end_of
from tests.support.study_records import StudyNames, write_studies
from tuning.records.method_records import MethodRecords
from tuning.records.open_storage import open_storage
from tuning.reporting.report.figures.cost import measure_idle_share
from tuning.reporting.report.figures.group_bars import draw_group_bars, draw_task_deltas
from tuning.reporting.report.figures.pareto_front import find_front
from tuning.reporting.report.figures.progress import expect_random_best
from tuning.reporting.report.read_studies import BusyTime, RecordSource, read_studies
from tuning.reporting.report.scales import find_linear_end, list_ticks, spread_axis
from tuning.reporting.report.style import apply_style, make_panel

numbers = st.floats(-100, 100).map(lambda value: round(value, 2))


@given(st.lists(numbers, min_size=1, max_size=7), st.booleans())
def test_the_random_expectation_is_the_mean_over_all_subsets(
    values: list[float], higher: bool
) -> None:
    best = max if higher else min
    for k, expected in enumerate(expect_random_best(values, higher), start=1):
        subsets = [best(subset) for subset in combinations(values, k)]
        assert expected == pytest.approx(np.mean(subsets), abs=1e-9)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12), st.booleans(), st.booleans())
def test_no_point_of_the_front_is_exceeded_in_both_values(
    points: list[tuple[float, float]], x_up: bool, y_up: bool
) -> None:
    signed = [(x if x_up else -x, y if y_up else -y) for x, y in points]
    best = {
        one
        for one in signed
        if not any(other != one and other[0] >= one[0] and other[1] >= one[1] for other in signed)
    }
    front = [signed[i] for i in find_front(points, x_up, y_up)]
    assert sorted(front) == sorted(best)


def test_idle_time_is_that_of_slots_without_a_run() -> None:
    both = [BusyTime(0, 10), BusyTime(0, 10)]
    assert measure_idle_share(both, 2) == 0
    assert measure_idle_share(both, 4) == pytest.approx(0.5)
    assert measure_idle_share([BusyTime(0, 10), BusyTime(0, 5)], 2) == pytest.approx(0.25)
    # Short gaps are idle; long ones are between two commands.
    assert measure_idle_share([BusyTime(0, 10), BusyTime(30, 40)], 1) == pytest.approx(0.5)
    assert measure_idle_share([BusyTime(0, 10), BusyTime(1000, 1010)], 1) == 0
    assert measure_idle_share([], 2) is None
    assert measure_idle_share(both, 0) is None


def test_training_seeds_take_turns_in_the_slot_of_their_trial(tmp_path: Path) -> None:
    write_studies(tmp_path, StudyNames(methods=("erm",)), trials=2, seeds=1)
    (export,) = tmp_path.rglob("export.json")
    records = MethodRecords(export.parent)
    for run, described in records.read_runs(skip_other_versions=True):
        if run.read_end() is None:
            continue
        other = replace(described, key=replace(described.key, seed=2000 + described.key.seed))
        second = records.open_run(other.key.digest)
        second.write_description(other)
        second.write_end(end_of(run))
    (one,) = read_studies([RecordSource("r", open_storage(tmp_path))]).studies["digits"]
    assert len(one.study.trials[0].keys) == 2
    assert len(one.busy) == len(one.study.trials) + len(one.study.recorded_seeds)
    epochs = one.study.trials[0].epochs
    assert one.busy[0].end - one.busy[0].start == pytest.approx(2.0 * epochs)


def test_an_axis_is_logarithmic_where_a_few_values_would_flatten_the_others() -> None:
    assert find_linear_end([3, -8, 20, 150, 40]) is None
    assert find_linear_end([3, -8, 20, 250, 2906]) == 10
    assert find_linear_end([3, -8, 20, -2906, float("nan"), float("inf"), 0]) == 10
    assert find_linear_end([0.01, 0.02, 0.9]) is None  # shares keep their scale
    assert find_linear_end([1, 2, 1, 90], highest_share=100) is None
    assert find_linear_end([]) is None
    assert list_ticks(-30, 2906, 10) == [-10, 0, 10, 100, 1000]
    assert list_ticks(0, 2906, 100) == [0, 100, 200, 500, 1000, 2000]
    assert list_ticks(0, 2e9, 10) == [0, 10, 1e3, 1e5, 1e7, 1e9]


def test_a_logarithmic_axis_says_so_and_shows_all_values(
    sources: list[RecordSource],
) -> None:
    one = read_studies(sources).studies["two_digits"][0]
    with apply_style():
        _, axes = make_panel("delta m", "value")
        axes.plot([3, 4, 2906], [3, 4, 5])
        spread_axis(axes, "x", [3, 4, 2906], one.scale(1.0))
        spread_axis(axes, "y", [3, 4, 5], one.scale(1.0))
    assert (axes.get_xscale(), axes.get_yscale()) == ("symlog", "linear")
    assert axes.get_xlabel() == "delta m, symmetric log axis"
    assert axes.get_title("left") == "value"
    assert axes.get_xlim()[0] < 3
    assert axes.get_xlim()[1] > 2906


def test_groups_and_tasks_have_a_panel_each_and_methods_a_row(
    sources: list[RecordSource],
) -> None:
    drawn = {"group_accuracy": (2, 4), "task_deltas": (3, 2)}  # methods and panels
    for studies in read_studies(sources).studies.values():
        summaries = [one.summary for one in studies]
        with apply_style():
            chart = draw_group_bars(studies, summaries) or draw_task_deltas(studies, summaries)
        assert chart is not None
        methods, panels = drawn.pop(chart.name)
        assert len(chart.figure.axes) == panels
        labels = [text.get_text() for text in chart.figure.axes[0].get_yticklabels()]
        assert labels == [one.short_label for one in studies]
        assert len(labels) == methods
        assert [len(texts) for texts in chart.hints.values()] == [methods] * panels
        assert not chart.figure.legends
    assert not drawn
