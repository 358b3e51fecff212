"""The embedded benchmarks of several tasks, and the metrics of numbers and labels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor

from common.errors import UserError
from core.models.tasks_mlp import TasksMLP
from core.models.two_digits_cnn import TwoDigitsCNN
from core.objectives.task_losses import LOSSES
from core.recipe.assignments import read_baseline
from core.weighting import backward, load_weighting
from datasets.multitask.baseline import Baseline
from datasets.multitask.imbalanced_tasks import SCALES, ImbalancedTasks, draw_opposed_directions
from datasets.multitask.metrics import AbsoluteError, LabelAccuracy, RelativeError
from datasets.multitask.two_digits import DIGITS, SUM_MEAN, SUM_SCALE, TwoDigits, overlay_digits

KINDS = (TwoDigits, ImbalancedTasks)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_belong_to_tasks_and_data_are_the_same_again(
    kind: type[TwoDigits] | type[ImbalancedTasks],
) -> None:
    one, other = kind(Path()), kind(Path())
    for split in one.splits.values():
        assert set(split.targets) == {task.name for task in one.tasks} == set(one.output_sizes)
        assert {len(target) for target in split.targets.values()} == {len(split.inputs)}
    assert one.data_hash == other.data_hash
    assert one.add_deltas(dict(one.baseline.metrics))["delta_m"] == 0


# A changed hash means other data: raise the benchmark's version with it.
@pytest.mark.parametrize(
    ("kind", "version", "data_hash"),
    [(TwoDigits, "1", "0f4f9df0ca284e51"), (ImbalancedTasks, "1", "3b46b34e257f020d")],
)
def test_data_hash_is_pinned(
    kind: type[TwoDigits] | type[ImbalancedTasks], version: str, data_hash: str
) -> None:
    benchmark = kind(Path())
    assert (benchmark.version, benchmark.data_hash) == (version, data_hash)


def test_every_digit_is_in_one_split() -> None:
    images, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy((images / 16).astype(np.float32)).view(-1, 8, 8)
    order = np.random.RandomState(7).permutation(len(pixels))
    first = 0
    for name, size in DIGITS.items():
        own = order[first : first + size]
        first += size
        split = TwoDigits(Path()).splits[name]
        assert isinstance(split.inputs, Tensor)
        canvas = split.inputs[:200, 0]
        # Outside the overlap of 4x4 pixels, a canvas shows its two digits and nothing else.
        left = {(row.tobytes(), y) for row, y in outside(pixels[own], labels[own], 0)}
        right = {(row.tobytes(), y) for row, y in outside(pixels[own], labels[own], 1)}
        for place in range(200):
            here = canvas[place]
            corner = here[:4, :8].numpy().tobytes()
            assert (corner, int(split.targets["left"][place])) in left
            corner = here[8:, 4:].numpy().tobytes()
            assert (corner, int(split.targets["right"][place])) in right
            assert not here[:4, 8:].any()
            assert not here[8:, :4].any()
    assert first == len(pixels)


def outside(pixels: Tensor, labels: np.ndarray, side: int) -> list[tuple[np.ndarray, int]]:
    """Return the rows of each digit that no other digit can hide, with its label."""
    rows = pixels[:, 4:] if side else pixels[:, :4]
    return [(row.numpy().copy(), int(y)) for row, y in zip(rows, labels, strict=True)]


def test_sums_are_the_sums_and_the_brighter_pixel_is_seen() -> None:
    for split in TwoDigits(Path()).splits.values():
        found = split.targets["sum"] * SUM_SCALE + SUM_MEAN
        total = split.targets["left"] + split.targets["right"]
        torch.testing.assert_close(found, total.float())
    canvas = overlay_digits(np.full((1, 8, 8), 0.3), np.full((1, 8, 8), 0.2))[0, 0]
    assert canvas[:8, :8].min() == canvas.max() == 0.3
    assert canvas[8:, 4:].min() == canvas[4:, 8:].max() == 0.2


def test_directions_oppose_and_scales_differ() -> None:
    directions = draw_opposed_directions(np.random.RandomState(0))
    expected = np.full((4, 4), -1 / 3) + np.eye(4) * 4 / 3
    np.testing.assert_allclose(directions @ directions.T, expected, atol=1e-12)
    deviations = ImbalancedTasks(Path()).deviations
    for name, scale in SCALES.items():
        assert deviations[name] == pytest.approx(0.707 * scale, rel=0.05)


@given(
    st.lists(
        st.tuples(st.floats(-99, 99), st.floats(-99, 99), st.integers(1, 3)),
        min_size=1,
        max_size=12,
    )
)
def test_errors_are_those_of_all_examples(rows: list[tuple[float, float, int]]) -> None:
    meters = AbsoluteError("mae", 2.0), RelativeError("relative", 4.0)
    outputs, targets, _ = (torch.tensor(column) for column in zip(*rows, strict=True))
    errors: list[list[Tensor]] = [[], []]
    start = 0
    while start < len(rows):  # in batches of different sizes
        stop = start + rows[start][2]
        for meter, kept in zip(meters, errors, strict=True):
            kept.append(meter.update(outputs[start:stop], targets[start:stop]))
        start = stop
    off = np.abs(outputs.double().numpy() - targets.double().numpy())
    assert meters[0].compute_metrics()["mae"] == pytest.approx(2 * off.mean(), rel=1e-5, abs=1e-5)
    assert meters[1].compute_metrics()["relative"] == pytest.approx(
        np.sqrt((off**2).mean()) / 4, rel=1e-5, abs=1e-5
    )
    np.testing.assert_allclose(torch.cat(errors[0]), 2 * off, rtol=1e-4, atol=1e-4)


def test_accuracy_of_labels() -> None:
    meter = LabelAccuracy("accuracy")
    logits = torch.eye(4)
    assert meter.update(logits, torch.tensor([0, 1, 2, 0])).tolist() == [0, 0, 0, 1]
    assert meter.update(logits[:1], torch.tensor([3])).tolist() == [1]
    assert meter.compute_metrics() == {"accuracy": pytest.approx(0.6)}


@pytest.mark.parametrize(
    ("kind", "benchmark", "shared", "per_output"),
    [(TwoDigitsCNN, TwoDigits, 5888, 33), (TasksMLP, ImbalancedTasks, 416, 17)],
)
def test_models_have_a_head_per_task(
    kind: type[TwoDigitsCNN] | type[TasksMLP],
    benchmark: type[TwoDigits] | type[ImbalancedTasks],
    shared: int,
    per_output: int,
) -> None:
    made = benchmark(Path())
    model = kind(made.output_sizes)
    inputs = made.splits["test"].inputs[torch.arange(5)]
    output = model(inputs)
    assert not isinstance(output.outputs, Tensor)
    for task in made.tasks:
        expected = (5, task.output_size) if task.output_size > 1 else (5,)
        assert output.outputs[task.name].shape == expected
        head = model.get_task_heads()[task.name]
        assert sum(p.numel() for p in head.parameters()) == per_output * task.output_size
        LOSSES[task.loss](
            output.outputs[task.name], made.splits["test"].targets[task.name][:5]
        ).backward(retain_graph=True)
        assert all(p.grad is not None for p in head.parameters())
    total = sum(p.numel() for p in model.parameters())
    assert total == shared + per_output * sum(made.output_sizes.values())
    assert f"{shared:,} parameters" in (kind.__doc__ or "")
    assert output.features is not None
    assert len(output.features) == 1


def trained(method: str) -> dict[str, float]:
    """Return the relative errors on the test split after a plain training loop."""
    torch.manual_seed(0)
    benchmark = ImbalancedTasks(Path())
    model = TasksMLP(benchmark.output_sizes)
    weighting = load_weighting(method)
    heads = [p for head in model.get_task_heads().values() for p in head.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), lr=benchmark.training_config.lr)
    split = benchmark.splits["train"]
    for _ in range(benchmark.training_config.epochs):
        for rows in torch.randperm(len(split)).split(benchmark.training_config.batch_size):
            output = model(split.inputs[rows])
            losses = [
                LOSSES[task.loss](output.outputs[task.name], split.targets[task.name][rows])
                for task in benchmark.tasks
            ]
            optimizer.zero_grad()
            shared = model.trunk.parameters()
            backward(losses, weighting, shared=shared, heads=heads, features=output.features)
            optimizer.step()
    meters = benchmark.make_accumulators()
    test = benchmark.splits["test"]
    with torch.no_grad():
        outputs = model(test.inputs).outputs
    values: dict[str, float] = {}
    for name, meter in meters.items():
        meter.update(outputs[name], test.targets[name])
        values |= meter.compute_metrics()
    return values


@pytest.mark.slow
def test_fairgrad_halves_the_worst_error_of_the_sum() -> None:
    assert max(trained("fairgrad").values()) < max(trained("ls").values()) / 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", r"x: not a baseline file: received \[1\], expected the keys dataset"),
        ("{", "x: not a baseline file, which is JSON"),
        ('{"metrics": {}}', "x: not a baseline file: received metrics, expected"),
        ({"metrics": [1.0]}, r"x: metrics: received \[1.0\], expected numbers by name"),
        ({"metrics": {"sum_mae": "1.0"}}, "x: metrics.sum_mae: received '1.0', expected a number"),
        ({"metrics": {"sum_mae": True}}, "metrics.sum_mae: received True"),
        ({"metrics": {"sum_mae": None}}, "metrics.sum_mae: received None"),
        ({"metrics": {"sum_mae": float("nan")}}, "metrics.sum_mae: received nan"),
        ({"metrics": {"sum_mae": 0}}, "metrics.sum_mae: 0, so delta-m is undefined"),
        ({"metrics": {"sum_mae": -2.5}}, "metrics.sum_mae: -2.5, so delta-m is undefined"),
    ],
)
def test_what_is_no_baseline_is_refused(text: str | dict[str, object], message: str) -> None:
    good = {"name": "n", "dataset": "two_digits", "version": "1", "source": "s", "metrics": {}}
    written = text if isinstance(text, str) else json.dumps(good | text)
    with pytest.raises(UserError, match=message) as found:
        Baseline.from_json(written, "x")
    assert "\n" not in str(found.value)


def test_an_empty_baseline_file_is_not_the_data_sets_own(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("\n")
    with pytest.raises(UserError, match=r"--baseline: '.*empty.json' is empty"):
        read_baseline(tmp_path / "empty.json")
    assert read_baseline(None) == ""
