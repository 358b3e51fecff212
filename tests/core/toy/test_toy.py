"""The landscape of two objectives, the paths on it, and the figure."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from scipy.optimize import approx_fprime
from torch import Tensor

from common.errors import UserError
from core.recipe.method_files import list_methods, load_method
from core.toy import descent, landscape
from core.toy.__main__ import main
from core.toy.figure import _draw_parameter_plane
from core.weighting import backward, list_weightings, load_weighting
from core.weighting.methods.si import ScaleInvariant


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
    assert landscape.compute_front_distance(front).max() < 1e-9
    between = (front[:-1] + front[1:]) / 2
    assert landscape.compute_front_distance(between).max() < 1e-9
    # The front ends at x_1 = -7 and 7, at x_2 = -8.4, and is level in the middle.
    middle = front[len(front) // 2]
    for point, distance in (
        ((7.0 + 3.0, front[0, 1] + 4.0), 5.0),
        ((-7.0 - 5.0, front[-1, 1] - 12.0), 13.0),
        ((middle[0], middle[1] + 0.5), 0.5),
    ):
        found = float(landscape.compute_front_distance(np.array(point)))
        assert found == pytest.approx(distance, abs=2e-2)
    # Ends that the figure shows beside the front.
    beside = np.array([[-5.73, -7.5], [-5.73, -6.2]])
    assert landscape.compute_front_distance(beside).min() > descent.MAX_FRONT_DISTANCE


def test_the_front_is_the_same_at_any_scale() -> None:
    front = landscape.compute_pareto_front()[1:-1:20]
    for scale in (0.01, 1.0):
        x = torch.tensor(front, requires_grad=True)
        losses = landscape.compute_losses(x, scale)
        one, two = (
            torch.autograd.grad(losses[:, i].sum(), x, retain_graph=True)[0] for i in (0, 1)
        )
        cosines = torch.nn.functional.cosine_similarity(one, two)
        torch.testing.assert_close(cosines, -torch.ones_like(cosines), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_famo_reaches_the_front_from_all_starts_at_its_authors_gamma() -> None:
    (found,) = descent.descend_landscape(["famo:gamma=0"], 800, 0.2)
    assert found.is_on_front.all()
    assert found.distances.max() < descent.MAX_FRONT_DISTANCE


def test_rate_scale_starts_and_parameters_reach_the_paths() -> None:
    one, two = descent.descend_landscape(["fairgrad:alpha=1", "fairgrad:alpha=8"], steps=200)
    assert np.abs(one.paths[:, -1] - two.paths[:, -1]).max() > 0.05
    (nash,) = descent.descend_landscape(["nashmtl"], steps=200)
    np.testing.assert_allclose(one.paths, nash.paths, atol=1e-6)
    given = {"lr": 0.02, "scale": 1.0, "starts": ((1.0, -2.0), (3.0, 3.0))}
    (ls,) = descent.descend_landscape(["ls"], 1, **given)  # type: ignore[arg-type]
    assert ls.paths[:, 0].tolist() == [[1.0, -2.0], [3.0, 3.0]]
    # Adam's first step is the rate against the sign of the gradient.
    x = torch.tensor(ls.paths[:, 0], requires_grad=True)
    landscape.compute_losses(x, 1.0).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(ls.paths[:, 1] - ls.paths[:, 0], -0.02 * x.grad.sign(), atol=1e-6)


def test_the_figure_of_the_fairgrad_paper_is_one_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alphas = ["fairgrad:alpha=1", "fairgrad:alpha=2", "fairgrad:alpha=10"]
    out = tmp_path / "figure.svg"
    assert main(["--methods", "ls", *alphas, "--plane", "losses", "--steps", "9",
                 "--out", str(out), "--start", "-8.5", "7.5"]) == 0  # fmt: skip
    printed = capsys.readouterr().out
    assert all(alpha in printed for alpha in alphas)
    assert "of 1" in printed
    assert out.stat().st_size > 1000


def test_names_of_methods_and_of_published_code() -> None:
    assert isinstance(descent.parse_weighting("scaleinvls"), ScaleInvariant)
    descent.parse_weighting("ls:weights=first:2,second:3,losses=log")
    for method in list_methods():
        if method in list_weightings():
            continue
        with pytest.raises(UserError, match=f"; the method {method} has the weighting") as found:
            descent.parse_weighting(method)
        hint = str(found.value).rpartition(" ")[2]
        if load_method(method).needs == {"tasks"}:  # others name losses that the landscape lacks
            descent.parse_weighting(hint)


def test_learned_weights_have_their_own_rate() -> None:
    still, slow = descent.descend_landscape(["uw:lr=0", "uw:lr=0.5"], steps=40)
    (ls,) = descent.descend_landscape(["ls"], steps=40)
    np.testing.assert_allclose(still.paths, ls.paths, atol=1e-5)  # of half the sum: same steps
    assert np.abs(slow.paths - ls.paths).max() > 1e-3


def test_the_drawn_front_is_where_ends_are_counted() -> None:
    (path,) = descent.descend_landscape(["ls"], steps=1)
    panel = Figure().subplots()
    _draw_parameter_plane(panel, path)
    (band,) = [c for c in panel.collections if isinstance(c, ContourSet) and c.filled]
    (area,) = band.get_paths()
    random = np.random.RandomState(0)
    points = random.uniform([-8, -9.5], [8, -7.5], size=(400, 2))
    distances = landscape.compute_front_distance(points)
    is_clear = np.abs(distances - descent.MAX_FRONT_DISTANCE) > 0.02  # finer than the grid
    expected = distances < descent.MAX_FRONT_DISTANCE
    np.testing.assert_array_equal(area.contains_points(points)[is_clear], expected[is_clear])
    assert expected.any()


@pytest.mark.parametrize("method", list_weightings())
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
    found = {path.method: path for path in descent.descend_landscape(fair, 300, 0.08)}
    found["ls"] = descent.descend_landscape(["ls"], 1000, 0.08)[0]  # on a flatter floor
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
        (
            ["--methods", "fairgard"],
            "--methods: unknown weighting 'fairgard' (did you mean 'fairgrad'?)",
        ),
        (
            ["--methods", "fairgrad:alfa=1"],
            "--methods: unknown parameter of fairgrad 'alfa' (did you mean 'alpha'?)",
        ),
        (["--methods", "fairgrad:alpha=0"], "--methods: alpha is 0, expected a number above 0"),
        (["--methods", "fairgrad:alpha=x"], "--methods: fairgrad: alpha is 'x', expected a number"),
        (["--methods", "dwa:window=1.5"], "--methods: dwa: window is 1.5, expected an integer"),
        (["--methods", "uw:lr=x"], "--methods: uw: lr is 'x', expected a number or null"),
        (["--methods", "uw:lr=-1"], "--methods: lr is -1, expected a number of at least 0"),
        (["--methods", "famo:step_size=0"], "--methods: step_size is 0, expected a number above 0"),
        (
            ["--methods", "famo:weights_lr=0"],
            "--methods: unknown parameter of famo 'weights_lr'; known: gamma, step_size; "
            "weights_lr of the method famo is step_size here",
        ),
        (
            ["--methods", "fairgrad:alpha=1,alpha=1"],
            "--methods: alpha is given twice in 'fairgrad:alpha=1,alpha=1'",
        ),
        (["--methods", "famo:"], "--methods: received 'famo:', expected NAME or"),
        (["--methods", "fairgrad:2"], "--methods: received 'fairgrad:2', expected NAME or"),
        (["--methods", "fairgrad:alpha="], "--methods: received 'fairgrad:alpha=', expected"),
        (["--lr", "0"], "--lr: received 0.0, expected a number above 0"),
        (["--scale", "nan"], "--scale: received nan, expected a number above 0"),
        (["--start", "11", "0"], "--start: received 11.0 0.0, expected two numbers from -10 to"),
        (["--out", "figure.pdf"], "--out: received 'figure.pdf', expected a name that ends in"),
        (["--out", "nowhere/figure.png"], "--out: the folder 'nowhere' does not exist"),
        (["--steps", "0"], "--steps: received 0, expected an integer from 1 to"),
        (["--steps", "9999999999"], "--steps: received 9999999999, expected an integer from 1 to"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
