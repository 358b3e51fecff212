"""The landscape of two objectives, the paths on it, and the figure."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime
from torch import Tensor

from core.toy import descent, landscape
from core.toy.__main__ import main
from core.weighting import backward, load_weighting


def plain(x1: float, x2: float) -> tuple[float, float]:
    """Return the losses, from the formulas of the paper's appendix."""
    t = np.tanh(-x2)
    valleys = [
        np.log(max(abs(0.5 * (-x1 - 7) - t), 5e-6)) + 6,
        np.log(max(abs(0.5 * (-x1 + 3) + t + 2), 5e-6)) + 6,
    ]
    bowls = [((-x1 + side) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20 for side in (7, -7)]
    above, below = max(np.tanh(0.5 * x2), 0), max(np.tanh(-0.5 * x2), 0)
    first, second = (above * v + below * b + 21 for v, b in zip(valleys, bowls, strict=True))
    return 0.1 * first, second


def one_loss(number: int, point: np.ndarray) -> float:
    return plain(*point)[number]


def test_losses_and_gradients() -> None:
    random = np.random.RandomState(0)
    points = random.uniform(-10, 10, size=(60, 2))
    found = landscape.compute_losses(torch.from_numpy(points)).numpy()
    for point, values in zip(points, found, strict=True):
        assert values == pytest.approx(plain(*point), rel=1e-12)
        for loss in (0, 1):
            x = torch.tensor(point, requires_grad=True)
            (gradient,) = torch.autograd.grad(landscape.compute_losses(x)[loss], x)
            slopes = approx_fprime(point, partial(one_loss, loss), 1e-7)
            np.testing.assert_allclose(gradient, slopes, rtol=1e-3, atol=1e-4)
    assert (found > 0).all()


def test_front_is_where_nothing_is_better() -> None:
    front = landscape.compute_pareto_front()
    values = landscape.compute_losses(torch.from_numpy(front)).numpy()
    assert (np.diff(values[:, 0]) > 0).all()
    assert (np.diff(values[:, 1]) < 0).all()
    axis = np.linspace(-11, 11, 300)
    plane = landscape.compute_losses(
        torch.from_numpy(np.stack(np.meshgrid(axis, axis), -1))
    ).reshape(-1, 2)
    better = (plane.numpy()[None] < values[::10, None] - 1e-6).all(-1)
    assert not better.any()
    assert landscape.compute_front_gap(front).max() == 0
    assert landscape.compute_front_gap(front + np.array([0, 3.0])).min() > 0
    assert landscape.compute_front_gap(np.array([9.0, 9.0])) > descent.MAX_FRONT_GAP


@pytest.mark.parametrize("method", descent.list_weightings())
def test_direction_is_that_of_the_engine(method: str) -> None:
    one, other = load_weighting(method), load_weighting(method)
    for weighting in (one, other):
        weighting.setup(["first", "second"])
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        gradients = torch.randn(2, 2, generator=generator, dtype=torch.float64)
        values = torch.rand(2, generator=generator, dtype=torch.float64) + 0.5
        x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        torch.manual_seed(seed)
        backward(values + gradients @ x, one, shared=[x])
        torch.manual_seed(seed)
        assert isinstance(x.grad, Tensor)
        torch.testing.assert_close(descent.compute_direction(other, values, gradients), x.grad)
        for weighting in (one, other):
            if weighting.needs_losses_after_step:
                weighting.after_step(values / 2)


@pytest.mark.slow
def test_fair_weightings_reach_the_front_and_the_sum_does_not() -> None:
    fair = ["fairgrad", "nashmtl"]
    found = {path.method: path for path in descent.descend_landscape([*fair, "ls"], 1600, 0.02)}
    assert all(found[method].is_on_front.all() for method in fair)
    assert not found["ls"].is_on_front.all()
    assert found["ls"].is_on_front.any()
    # Fair weightings stop inside the front, not at an end.
    assert all(np.abs(found[method].paths[:, -1, 0]).max() < 6.5 for method in fair)


def test_paths_do_not_meet_and_draws_are_repeated() -> None:
    both = descent.descend_landscape(["rlw", "cagrad"], steps=30)
    alone = descent.descend_landscape(["cagrad"], steps=30)
    np.testing.assert_array_equal(both[1].paths, alone[0].paths)
    np.testing.assert_array_equal(
        descent.descend_landscape(["rlw", "cagrad"], steps=30)[0].paths, both[0].paths
    )
    assert (both[0].paths[:, 0] == landscape.STARTS).all()


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_figure_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    out = tmp_path / f"figure.{suffix}"
    assert main(["--methods", "ls", "cagrad", "--steps", "20", "--out", str(out)]) == 0
    start = {"png": b"\x89PNG", "svg": b"<?xml"}[suffix]
    assert out.read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    printed = capsys.readouterr().out
    assert "ls " in printed
    assert "cagrad " in printed
    assert "of 5" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "fairgard"], "unknown weighting 'fairgard' (did you mean 'fairgrad'?)"),
        (["--out", "figure.pdf"], "--out: received 'figure.pdf', expected a name that ends in"),
        (["--out", "nowhere/figure.png"], "--out: the folder 'nowhere' does not exist"),
        (["--steps", "0"], "--steps: received 0, expected at least 1"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
