"""Low-rank gradients of layers: the same step, from fewer numbers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.weighting import AlphaFairWeighting, backward, load_weighting, solve_alpha_fair
from core.weighting.gradients.low_rank import find_low_rank_gradients
from core.weighting.gradients.task_gradients import compute_gram
from tests.support.networks import flatten_gradient

TASKS, EXAMPLES, WIDTH = 4, 6, 48


class Twice(nn.Module):
    """A layer that is used twice, and a product that is none of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(WIDTH, WIDTH), nn.Parameter(torch.randn(WIDTH, WIDTH))

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.layer(self.layer(inputs).tanh()) @ self.factor
        return found


class Hooked(nn.Module):
    """Layers between which a gradient is changed, as by a reversal."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH, bias=bias), nn.Linear(WIDTH, WIDTH)

    def forward(self, inputs: Tensor) -> Tensor:
        between = self.first(inputs)
        between.register_hook(lambda gradient: -2 * gradient.flip(0))
        found: Tensor = self.last(between.tanh())
        return found


class Sequences(nn.Module):
    """Layers that see several positions of each example, as attention's do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(24, 128), nn.GELU(), nn.Linear(128, 24))

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.inner(inputs.view(-1, 2, 24)).flatten(1)
        return found


class Images(nn.Module):
    """Layers that see images of 2 x 2 pixels with 12 channels."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.inner(inputs.view(-1, 12, 2, 2)).flatten(1)
        return found


class Again(nn.Module):
    """A part whose activations are computed again in the backward pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = checkpoint(self.inner, inputs, use_reentrant=False)
        return found


def _frozen() -> nn.Module:
    trunk = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))
    trunk[0].weight.requires_grad_(False)
    trunk[2].bias.requires_grad_(False)
    return trunk


def _linear() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))


def _convolutions() -> nn.Module:
    return Images(
        nn.Conv2d(12, 80, 3, padding=1), nn.ReLU(), nn.Conv2d(80, 32, 2, bias=False)
    )  # fmt: skip


def _channels_last() -> nn.Module:
    layer = nn.Conv2d(12, 80, 3, padding=1)
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return Images(layer)


def _reverse(layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
    outputs.register_hook(lambda gradient: -2 * gradient.flip(0))


def _hooked_convolutions() -> nn.Module:
    trunk = _convolutions()
    trunk.get_submodule("inner.0").register_forward_hook(_reverse)
    return trunk


TRUNKS: dict[
    str, tuple[Callable[[], nn.Module], int]
] = {  # with the number of its low-rank gradients
    "one layer": (lambda: nn.Linear(WIDTH, WIDTH), 1),
    "no bias": (lambda: nn.Sequential(nn.Linear(WIDTH, 40, bias=False), nn.ReLU()), 1),
    "deep": (lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 16)), 2),
    "frozen": (_frozen, 1),
    "twice": (Twice, 0),
    "sequences": (Sequences, 1),
    "hooked": (lambda: Hooked(True), 2),
    "hooked, no bias": (lambda: Hooked(False), 2),
    "computed again": (lambda: Again(_linear()), 0),
    "hooked convolutions": (_hooked_convolutions, 2),
    "convolutions": (_convolutions, 2),
    "convolutions, computed again": (lambda: Again(_convolutions()), 0),
    "strides": (lambda: Images(nn.Conv2d(12, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64)), 1),
    "unequal sides": (
        lambda: Images(nn.Conv2d(12, 64, (3, 2), (2, 3), padding=(2, 1), dilation=2)),
        1,
    ),
    "same": (lambda: Images(nn.Conv2d(12, 80, 3, padding="same")), 1),
    "reflected": (
        lambda: Images(nn.Conv2d(12, 80, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
        1,
    ),
    "channels last": (_channels_last, 1),
    "groups": (lambda: Images(nn.Conv2d(12, 64, 2, groups=2)), 0),
    "transposed": (lambda: Images(nn.ConvTranspose2d(12, 64, 3)), 0),
}


def _problem(name: str) -> tuple[nn.Module, nn.ModuleList, Tensor]:
    torch.manual_seed(2)
    trunk = TRUNKS[name][0]().double()
    inputs = torch.randn(EXAMPLES, WIDTH, dtype=torch.float64)
    inputs[1] = inputs[0]  # the inputs span fewer dimensions than they are
    inputs[2] = 0
    outputs = trunk(inputs).shape[1]
    return trunk, nn.ModuleList(nn.Linear(outputs, 1) for _ in range(TASKS)).double(), inputs


def _losses(features: Tensor, heads: nn.ModuleList) -> list[Tensor]:
    return [(i + 1) * head(features).sub(i).square().mean() for i, head in enumerate(heads)]


def _rows(trunk: nn.Module, heads: nn.ModuleList, inputs: Tensor) -> Tensor:
    rows = []
    for i in range(TASKS):
        trunk.zero_grad()
        _losses(trunk(inputs), heads)[i].backward()
        rows.append(torch.cat([flatten_gradient(p) for p in trunk.parameters() if p.requires_grad]))
    trunk.zero_grad()
    heads.zero_grad()
    return torch.stack(rows)


@pytest.mark.parametrize("with_features", [False, True])
@pytest.mark.parametrize("name", TRUNKS)
def test_the_step_is_that_of_whole_gradients(name: str, with_features: bool) -> None:
    trunk, heads, inputs = _problem(name)
    rows = _rows(trunk, heads, inputs)
    features = trunk(inputs)
    found = find_low_rank_gradients(
        [features.grad_fn], [p for p in trunk.parameters() if p.requires_grad], TASKS
    )
    assert len(found) == TRUNKS[name][1]
    step = backward(
        _losses(features, heads),
        load_weighting("fairgrad"),
        shared=trunk.parameters(),
        heads=heads.parameters(),
        features=features if with_features else None,
    )
    assert step.gram is not None
    assert step.weights is not None
    torch.testing.assert_close(step.gram, rows @ rows.T)
    direction = torch.cat([flatten_gradient(p) for p in trunk.parameters() if p.requires_grad])
    torch.testing.assert_close(direction, step.weights @ rows)
    assert all(p.grad is None or p.grad.stride() == p.stride() for p in trunk.parameters())


@pytest.mark.parametrize("name", ["hooked", "hooked, no bias", "hooked convolutions"])
def test_with_hooks_inside_the_trunk_matrix_free_ends_exact(name: str) -> None:
    trunk, heads, inputs = _problem(name)
    rows = _rows(trunk, heads, inputs)
    features = trunk(inputs)
    step = backward(
        _losses(features, heads), load_weighting("fairgrad"), shared=trunk.parameters(),
        heads=heads.parameters(), features=features, strategy="matrix_free",
    )  # fmt: skip
    assert step.strategy == "exact"
    assert step.weights is not None
    direction = torch.cat([flatten_gradient(p) for p in trunk.parameters()])
    torch.testing.assert_close(direction, step.weights @ rows)


def test_hooks_of_parameters_see_each_gradient() -> None:
    trunk, heads, inputs = _problem("deep")
    rows = _rows(trunk, heads, inputs)
    seen: list[Tensor] = []
    weight = next(trunk.parameters())
    weight.register_hook(lambda gradient: seen.append(gradient.clone()))
    backward(_losses(trunk(inputs), heads), load_weighting("fairgrad"), shared=trunk.parameters())
    for row, gradient in zip(rows, seen, strict=True):
        torch.testing.assert_close(gradient.flatten(), row[: weight.numel()])


def test_many_examples_and_few_tasks_have_no_find_low_rank_gradients() -> None:
    layer = nn.Linear(WIDTH, WIDTH)
    for examples, tasks in ((2 * WIDTH, TASKS), (WIDTH // 2, 1)):
        features = layer(torch.randn(examples, WIDTH))
        assert not find_low_rank_gradients([features.grad_fn], list(layer.parameters()), tasks)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_flag_the_step(value: float) -> None:
    trunk, heads, inputs = _problem("deep")
    inputs[3, 3] = value
    weighting = load_weighting("fairgrad")
    assert isinstance(weighting, AlphaFairWeighting)
    step = backward(_losses(trunk(inputs), heads), weighting, shared=trunk.parameters())
    assert int(weighting.flagged_steps) == 1
    assert step.weights is not None
    assert torch.isfinite(step.weights).all()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["deep", "convolutions"])
def test_precision_is_that_of_whole_gradients(name: str, kind: torch.dtype) -> None:
    trunk, heads, inputs = _problem(name)
    trunk, heads, inputs = trunk.float(), heads.float(), inputs.float()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == torch.bfloat16):
        rows = _rows(trunk, heads, inputs)
        features = trunk(inputs)
        losses = _losses(features, heads)
    step = backward(
        losses, load_weighting("fairgrad"), shared=trunk.parameters(), features=features
    )
    assert step.gram is not None
    wide = rows.double() @ rows.double().T
    lengths = wide.diagonal().sqrt()
    error = (step.gram - wide).abs() / lengths / lengths[:, None]
    assert error.max() < 4 * torch.finfo(kind).eps
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trunk.parameters())


@pytest.mark.parametrize("name", ["one layer", "unequal sides"])
def test_each_entry_is_as_precise_as_in_a_pass(name: str) -> None:
    trunk, heads, inputs = _problem(name)
    trunk, heads, inputs = trunk.float(), heads.float(), inputs.float()
    inputs[:, ::7] = 0
    inputs[:, 1] *= 1e6
    step = backward(
        _losses(trunk(inputs), heads), load_weighting("fairgrad"), shared=trunk.parameters()
    )
    found = [parameter.grad for parameter in trunk.parameters()]
    trunk.zero_grad()
    assert step.weights is not None
    losses = torch.stack(_losses(trunk(inputs), heads))
    (step.weights.to(losses) * losses).sum().backward()
    weight, expected = found[0], next(trunk.parameters()).grad
    assert weight is not None
    assert expected is not None
    assert (expected == 0).any()  # an optimizer that scales each entry would see any noise there
    assert weight[expected == 0].count_nonzero() == 0
    torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-8 * float(expected.abs().max()))


def test_odd_layers_keep_whole_gradients() -> None:
    dense = torch.randn(EXAMPLES, WIDTH)
    layer, none = nn.Linear(WIDTH, WIDTH), nn.Parameter(torch.empty(0, WIDTH))
    turned = dense.to(torch.complex64) @ layer.weight.to(torch.complex64).T
    for ends in (layer(dense.to_sparse()), dense @ none.T, turned):
        assert not find_low_rank_gradients([ends.grad_fn], [*layer.parameters(), none], TASKS)


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_opposed_gradients_are_seen_where_products_are_rounded(precision: str) -> None:
    rows = torch.randn(5, 40_000)
    rows[1] = -3 * rows[0]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        found = compute_gram(rows)
    finally:
        torch.set_float32_matmul_precision(before)
    assert solve_alpha_fair(found, 2.0).status == "no_solution"


@pytest.mark.parametrize("factor", [-2.0, -3.0, -0.7])
@pytest.mark.parametrize("tasks", [2, 3, 11])
def test_opposed_losses_flag_a_step_of_ordinary_size(tasks: int, factor: float) -> None:
    trunk = nn.Linear(64, 256)
    features = trunk(torch.randn(16, 64)).tanh()
    losses = [(features @ torch.randn(256)).square().mean() for _ in range(tasks - 1)]
    weighting = load_weighting("fairgrad")
    assert isinstance(weighting, AlphaFairWeighting)
    step = backward([*losses, factor * losses[0]], weighting, shared=trunk.parameters())
    assert int(weighting.flagged_steps) == 1
    assert step.weights is not None
    assert step.gram is not None
    lengths = step.gram.diagonal().sqrt()
    assert (step.weights * lengths).max() < 10 * (lengths / lengths.min()).max()


@pytest.mark.parametrize("with_features", [False, True])
def test_parameters_that_a_checkpoint_hides_are_refused(with_features: bool) -> None:
    trunk, heads, inputs = _problem("deep")
    features = checkpoint(trunk, inputs.requires_grad_(), use_reentrant=True)
    assert isinstance(features, Tensor)
    with pytest.raises(ValueError, match="use_reentrant=False"):
        backward(
            _losses(features, heads), load_weighting("fairgrad"), shared=trunk.parameters(),
            heads=heads.parameters(), features=features if with_features else None,
        )  # fmt: skip
