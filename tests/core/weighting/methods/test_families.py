"""Properties of every weighting, found by its file: a new one is tested without a new test."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.registry import find_components
from core.weighting import (
    GradientWeighting,
    GramWeighting,
    LossWeighting,
    Weighting,
    load_weighting,
)
from core.weighting.base import compute_inverse_norm_weights
from tests.support.gradients import (
    DEVICE,
    DOUBLE,
    DTYPE,
    Array,
    Case,
    list_cases,
    to_array,
    to_tensor,
)

KNOWN = find_components("core.weighting.methods", Weighting)
FAMILIES: dict[str, type[Weighting]] = {
    "losses": LossWeighting,
    "gram": GramWeighting,
    "gradients": GradientWeighting,
}
PROPERTIES = {"positive", "simplex", "equivariant", "scale_free", "conflict_free"}
NEAR = 1e-6 if DOUBLE else 5e-3
CASES = [c for c in list_cases() if DOUBLE or not re.search("near|1e-5", c.name)]
SOLVABLE = [c for c in CASES if not c.opposed]


def list_names(needs: str, claims: str | None = None) -> list[str]:
    return [
        name
        for name, kind in KNOWN.items()
        if issubclass(kind, FAMILIES[needs]) and (claims is None or claims in kind.properties)
    ]


def make_gram_weighting(name: str) -> GramWeighting:
    found = load_weighting(name)
    assert isinstance(found, GramWeighting)
    return found.to(DEVICE)


def make_loss_weighting(name: str, losses: int) -> LossWeighting:
    found = load_weighting(name)
    assert isinstance(found, LossWeighting)
    found.setup([f"task{i}" for i in range(losses)])
    return found.to(DEVICE)


def compute_unit_direction(gradients: Array, weights: Tensor) -> Array:
    """Return the unit vector of the step; 0 where rounding is all there is."""
    found = to_array(weights) @ gradients
    length = np.linalg.norm(found)
    largest = np.abs(to_array(weights)) @ np.linalg.norm(gradients, axis=1)
    return found / length if length > 1e-9 * largest else found * 0


def draw_losses(losses: int, steps: int = 7) -> Array:
    rng = np.random.default_rng(losses)
    return rng.uniform(0.1, 3, size=(steps, losses)) * np.linspace(1, 0.3, steps)[:, None]


def run_steps(weighting: LossWeighting, sequence: Sequence[Array]) -> list[Array]:
    """Return the weights of several steps in epochs of two."""
    found = []
    for step, losses in enumerate(sequence):
        found.append(to_array(weighting.compute_weights(to_tensor(losses))))
        weighting.after_step(to_tensor(losses * np.linspace(0.8, 1.1, len(losses))))
        if step % 2:
            weighting.on_epoch_end()
    return found


def test_the_vocabulary_is_complete() -> None:
    wanted = (
        "ls si rlw dwa uw famo dro fixed mgda pcgrad graddrop cagrad imtl nashmtl fairgrad upgrad "
        "aligned_mtl sdmgrad moco alpha_fair_loss"
    )
    assert set(wanted.split()) <= set(KNOWN)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'fairgrad'"):
        load_weighting("fairgrat")
    with pytest.raises(TypeError, match=r"unknown parameter of fairgrad 'alfa'.*known: alpha"):
        load_weighting("fairgrad", alfa=2.0)
    with pytest.raises(TypeError, match="cagrad: c is 'much', expected a number"):
        load_weighting("cagrad", c="much")


@pytest.mark.parametrize("name", KNOWN)
def test_the_file_documents_itself(name: str) -> None:
    kind = KNOWN[name]
    text = inspect.getdoc(kind) or ""
    parameters = list(inspect.signature(kind).parameters)
    assert "Properties:" in text
    assert re.search(r"\d{4}|baseline|weighted sum", text), "no paper"
    for parameter in parameters:
        assert re.search(rf"^ +{parameter}: ", text, re.MULTILINE), f"{parameter} not documented"
    assert kind.properties <= PROPERTIES


@pytest.mark.parametrize("name", KNOWN)
def test_every_parameter_has_a_default_and_a_plain_type(name: str) -> None:
    for parameter in inspect.signature(KNOWN[name]).parameters.values():
        assert parameter.default is not inspect.Parameter.empty
        assert parameter.annotation is not inspect.Parameter.empty


@pytest.mark.parametrize("name", KNOWN)
def test_the_family_says_what_a_step_needs(name: str) -> None:
    kind = KNOWN[name]
    assert sum(issubclass(kind, family) for family in FAMILIES.values()) == 1


@pytest.mark.parametrize("name", list_names("gram"))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gram_weights_are_finite_everywhere(name: str, case: Case) -> None:
    weights = make_gram_weighting(name).compute_weights(case.gram)
    assert weights.shape == (len(case.gradients),)
    assert (weights.dtype, weights.device.type) == (DTYPE, DEVICE.type)
    assert torch.isfinite(weights).all()


@pytest.mark.parametrize("name", list_names("gram"))
@pytest.mark.parametrize(
    "diagonal", [(0, 0, 0), (0.9, 0.9, 0.9), (0.9, 1e-30, 0), (-1e-30, 1, 1)], ids=str
)
def test_no_finite_matrix_is_too_much(name: str, diagonal: tuple[float, float, float]) -> None:
    largest = torch.finfo(DTYPE).max
    gram = torch.tensor(diagonal, dtype=DTYPE, device=DEVICE).diag() * largest
    for matrix in (gram, gram + 1, gram + gram.max()):
        weighting = make_gram_weighting(name)
        assert torch.isfinite(weighting.compute_weights(matrix.clamp(max=largest))).all()


@pytest.mark.parametrize("name", list_names("gram"))
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_matrices_that_are_not_finite_are_flagged(name: str, wrong: float) -> None:
    weighting = make_gram_weighting(name)
    gram = torch.eye(3, dtype=DTYPE, device=DEVICE)
    gram[0, 1] = gram[1, 0] = wrong
    torch.testing.assert_close(weighting.compute_weights(gram), compute_inverse_norm_weights(gram))
    assert int(weighting.flagged_steps) == 1
    assert int(weighting.state_dict()["flagged_steps"]) == 1


@pytest.mark.parametrize("name", list_names("gram"))
def test_well_posed_steps_are_not_flagged(name: str) -> None:
    weighting = make_gram_weighting(name)
    for case in SOLVABLE:
        if re.search("related|scale|lengths|duplicates", case.name):
            weighting.compute_weights(case.gram)
    assert int(weighting.flagged_steps) == 0


@pytest.mark.parametrize("name", list_names("gram"))
def test_one_task_is_descended(name: str) -> None:
    weights = make_gram_weighting(name).compute_weights(
        torch.full((1, 1), 4.0, dtype=DTYPE, device=DEVICE)
    )
    assert weights[0] > 0


@pytest.mark.parametrize("name", list_names("gram"))
def test_a_matrix_needs_its_shape_and_type_and_no_graph(name: str) -> None:
    weighting = make_gram_weighting(name)
    for shape in ((2, 3), (3,), (1, 3, 3), (0, 0)):
        with pytest.raises(ValueError, match=r"expected \(k, k\)"):
            weighting.compute_weights(torch.ones(shape, dtype=DTYPE, device=DEVICE))
    with pytest.raises(ValueError, match="expected a floating-point tensor"):
        weighting.compute_weights(torch.eye(3, dtype=torch.int64, device=DEVICE))
    gram = torch.eye(3, dtype=DTYPE, device=DEVICE, requires_grad=True)
    assert not weighting.compute_weights(gram).requires_grad


@pytest.mark.parametrize("name", list_names("gram", "positive"))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_weight_is_negative(name: str, case: Case) -> None:
    assert (make_gram_weighting(name).compute_weights(case.gram) >= 0).all()


@pytest.mark.parametrize("name", list_names("gram", "simplex"))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_sum_to_one(name: str, case: Case) -> None:
    assert float(make_gram_weighting(name).compute_weights(case.gram).sum()) == pytest.approx(
        1, abs=NEAR
    )


@pytest.mark.parametrize("name", list_names("gram", "equivariant"))
@pytest.mark.parametrize("case", SOLVABLE, ids=str)
def test_the_order_of_tasks_does_not_matter(name: str, case: Case) -> None:
    order = np.random.default_rng(0).permutation(len(case.gradients))
    permuted = case.gradients[order]
    moved = make_gram_weighting(name).compute_weights(to_tensor(permuted @ permuted.T))
    stayed = make_gram_weighting(name).compute_weights(case.gram)
    np.testing.assert_allclose(
        compute_unit_direction(permuted, moved),
        compute_unit_direction(case.gradients, stayed),
        atol=1e-3,
    )
    if case.name == "related":  # where weights are unique
        np.testing.assert_allclose(
            to_array(moved), to_array(stayed)[order], rtol=1e3 * NEAR, atol=NEAR
        )


@pytest.mark.parametrize("name", list_names("gram", "scale_free"))
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_scale_of_all_gradients_does_not_matter(name: str, scale: float) -> None:
    for case in SOLVABLE:
        torch.manual_seed(0)
        base = make_gram_weighting(name).compute_weights(case.gram)
        torch.manual_seed(0)
        scaled = make_gram_weighting(name).compute_weights(case.gram * scale)
        np.testing.assert_allclose(
            compute_unit_direction(case.gradients, scaled),
            compute_unit_direction(case.gradients, base),
            atol=1e-3,
            err_msg=case.name,
        )


@pytest.mark.parametrize("name", list_names("gram", "conflict_free"))
@pytest.mark.parametrize("case", SOLVABLE, ids=str)
def test_no_gradient_is_opposed(name: str, case: Case) -> None:
    weights = make_gram_weighting(name).compute_weights(case.gram)
    towards = case.gradients @ compute_unit_direction(case.gradients, weights)
    assert (towards >= -NEAR * np.linalg.norm(case.gradients, axis=1)).all()


@pytest.mark.parametrize("name", list_names("gradients"))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_combinations_are_finite_everywhere(name: str, case: Case) -> None:
    weighting = load_weighting(name)
    assert isinstance(weighting, GradientWeighting)
    combined = weighting.to(DEVICE).combine_gradients(to_tensor(case.gradients))
    assert combined.shape == (case.gradients.shape[1],)
    assert combined.dtype == DTYPE
    assert torch.isfinite(combined).all()


@pytest.mark.parametrize("name", list_names("gradients"))
def test_combinations_do_not_depend_on_the_order(name: str) -> None:
    for case in SOLVABLE:
        found = []
        for gradients in (case.gradients, case.gradients[::-1].copy()):
            torch.manual_seed(0)
            weighting = load_weighting(name)
            assert isinstance(weighting, GradientWeighting)
            found.append(to_array(weighting.to(DEVICE).combine_gradients(to_tensor(gradients))))
        size = np.abs(case.gradients).max()
        np.testing.assert_allclose(found[0], found[1], atol=NEAR * size, rtol=0)


@pytest.mark.parametrize("name", list_names("gradients", "scale_free"))
def test_combinations_scale_with_the_gradients(name: str) -> None:
    for case in SOLVABLE:
        found = []
        for scale in (1.0, 1024.0):  # a power of 2 changes no rounding
            torch.manual_seed(0)
            weighting = load_weighting(name)
            assert isinstance(weighting, GradientWeighting)
            found.append(
                to_array(weighting.to(DEVICE).combine_gradients(to_tensor(case.gradients * scale)))
            )
        np.testing.assert_array_equal(found[0] * 1024, found[1])


@pytest.mark.parametrize("name", list_names("losses"))
@pytest.mark.parametrize("losses", [1, 3, 8])
def test_loss_weights_are_finite_over_several_steps(name: str, losses: int) -> None:
    sequence = draw_losses(losses)
    sequence[2, 0] = 0  # a loss without an example
    found = np.array(run_steps(make_loss_weighting(name, losses), list(sequence)))
    assert found.shape == sequence.shape
    assert np.isfinite(found).all()
    if "positive" in KNOWN[name].properties:
        assert (found >= 0).all()
    if "simplex" in KNOWN[name].properties:
        np.testing.assert_allclose(found.sum(1), 1, atol=NEAR)


@pytest.mark.parametrize("name", list_names("losses", "equivariant"))
def test_the_order_of_losses_does_not_matter(name: str) -> None:
    sequence = draw_losses(5)
    order = np.random.default_rng(0).permutation(5)
    stayed, moved = make_loss_weighting(name, 5), make_loss_weighting(name, 5)
    for losses in sequence:
        kept, permuted = to_tensor(losses), to_tensor(losses[order])
        np.testing.assert_allclose(
            to_array(moved.compute_weights(permuted)),
            to_array(stayed.compute_weights(kept))[order],
            rtol=1e-4,
        )
        for weighting, seen in ((stayed, kept), (moved, permuted)):
            weighting.after_step(seen.square())
            weighting.on_epoch_end()


@pytest.mark.parametrize("name", list_names("losses"))
def test_the_objective_is_the_weighted_sum(name: str) -> None:
    losses = to_tensor(draw_losses(4)[0]).requires_grad_()
    torch.manual_seed(0)
    weights = make_loss_weighting(name, 4).compute_weights(losses.detach())
    torch.manual_seed(0)
    (gradient,) = torch.autograd.grad(
        make_loss_weighting(name, 4).compute_objective(losses), losses
    )
    torch.testing.assert_close(gradient, weights)
    assert not weights.requires_grad


def make_stepper(name: str) -> tuple[Callable[[Any, int], Array], Callable[[], Weighting]]:
    """Return how to take the i-th step with a weighting of any family, and how to make it."""
    rng = np.random.default_rng(5)
    gradients = rng.normal(size=(6, 4, 30))
    losses = draw_losses(4)

    def step(weighting: Any, number: int) -> Array:
        torch.manual_seed(number)
        given = to_tensor(gradients[number])
        if isinstance(weighting, GramWeighting):
            cached = weighting.use_cached_weights()
            return to_array(
                weighting.compute_weights(given @ given.T) if cached is None else cached
            )
        if isinstance(weighting, GradientWeighting):
            return to_array(weighting.combine_gradients(given))
        found = to_array(weighting.compute_weights(to_tensor(losses[number])))
        weighting.after_step(to_tensor(losses[number + 1]))
        weighting.on_epoch_end()
        return found

    def make() -> Weighting:
        weighting = load_weighting(name)
        weighting.setup(["a", "b", "c", "d"])
        return weighting.to(DEVICE)

    return step, make


@pytest.mark.parametrize("name", KNOWN)
def test_a_checkpoint_goes_on_with_the_same_numbers(name: str) -> None:
    step, make = make_stepper(name)
    straight = make()
    expected = [step(straight, number) for number in range(6)]
    first = make()
    for number in range(3):
        step(first, number)
    resumed = make()
    resumed.load_state_dict(first.state_dict())
    for number in range(3, 6):
        np.testing.assert_array_equal(step(resumed, number), expected[number])


@pytest.mark.parametrize("name", KNOWN)
def test_a_seed_repeats(name: str) -> None:
    step, make = make_stepper(name)
    runs = []
    for _ in range(2):
        weighting = make()
        runs.append([step(weighting, number) for number in range(6)])
    np.testing.assert_array_equal(runs[0], runs[1])
