"""One step's gradients against K separate backward passes in float64."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.registry import components
from core.weighting import (
    GradientWeighting,
    GramWeighting,
    LossWeighting,
    Weighting,
    backward,
    load,
)
from core.weighting.engine.tangents import Tangents
from core.weighting.fairgrad import FairGrad
from datasets.errors import UserError

KNOWN = components("core.weighting", Weighting)
COMBINING = [name for name in KNOWN if not isinstance(load(name), LossWeighting)]
FROM_GRAM = [name for name in KNOWN if isinstance(load(name), GramWeighting)]


class Network(nn.Module):
    """A trunk, a head per task, a layer that the heads share, and a parameter without a use."""

    def __init__(self, kind: str, tasks: int = 3) -> None:
        super().__init__()
        if kind == "conv":
            self.trunk = nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(4, 6, 3, bias=False),
                nn.BatchNorm2d(6),
                nn.LeakyReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(6, 8),
                nn.Tanh(),
            )
        else:
            self.trunk = nn.Sequential(
                nn.Flatten(), nn.Linear(72, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 8)
            )
        self.common = nn.Linear(8, 8)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(tasks))
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = self.trunk(inputs)
        common = self.common(features).relu() + features
        return features, [head(common) for head in self.heads]


Losses = Callable[[nn.Module, Any], tuple[Tensor, list[Tensor]]]


def make(kind: str = "conv", tasks: int = 3) -> tuple[Network, Tensor, Tensor]:
    """Return a float64 network with inputs and targets."""
    torch.manual_seed(1)
    network = Network(kind, tasks).double()
    return network, torch.randn(10, 2, 6, 6).double(), torch.randn(10, tasks).double()


def losses_of(network: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, list[Tensor]]:
    features, outputs = network(inputs)
    scales = torch.logspace(-1, 1, len(outputs))
    return features, [
        scale * (output[:, 0] - target).square().mean()
        for scale, output, target in zip(scales, outputs, targets.T, strict=True)
    ]


def groups(network: Network) -> dict[str, Any]:
    shared = [*network.trunk.parameters(), network.unused]
    return {"shared": shared, "heads": [*network.common.parameters(), *network.heads.parameters()]}


def bound(name: str, tasks: int = 3) -> Weighting:
    torch.manual_seed(0)
    weighting = load(name)
    weighting.bind([f"task{i}" for i in range(tasks)])
    return weighting


def grads(network: nn.Module) -> dict[str, Tensor | None]:
    return {
        name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()
    }


def reference(
    network: Network,
    losses: list[Tensor],
    weighting: Weighting,
    present: list[bool] | None = None,
    weighted: bool = False,
) -> dict[str, Tensor | None]:
    """K backward passes, each of everything, and the step put together by hand."""
    given = groups(network)
    shared = [p for p in given["shared"] if p.requires_grad]
    kept = [i for i in range(len(losses)) if present is None or present[i]]
    transformed = weighting.transform(torch.stack(losses))
    rows, heads = [], []
    for i in kept:
        network.zero_grad()
        transformed[i].backward(retain_graph=True)
        rows.append(torch.cat([_flat(p) for p in shared]))
        heads.append([_flat(p) for p in given["heads"]])
        touched = {id(p) for p in network.parameters() if p.grad is not None}
    matrix = torch.stack(rows)
    torch.manual_seed(5)
    if isinstance(weighting, GramWeighting):
        weights = weighting.weights(matrix @ matrix.T)
        direction = weights @ matrix
    else:
        assert isinstance(weighting, GradientWeighting)
        weights, direction = torch.ones(len(kept)), weighting.combine(matrix)
    network.zero_grad()
    for p, piece in zip(shared, direction.split([p.numel() for p in shared]), strict=True):
        p.grad = piece.view_as(p).clone() if id(p) in touched else None
    factors = weights.to(matrix) if weighted else torch.ones(len(kept)).to(matrix)
    for j, p in enumerate(given["heads"]):
        if p.requires_grad and any(bool(row[j].any()) for row in heads):
            p.grad = sum(f * row[j] for f, row in zip(factors, heads, strict=True)).view_as(p)
    return grads(network)


def _flat(p: Tensor) -> Tensor:
    return (torch.zeros_like(p) if p.grad is None else p.grad).flatten().clone()


def _grad(p: Tensor) -> Tensor:
    assert p.grad is not None
    return p.grad


def same(
    found: dict[str, Tensor | None], expected: dict[str, Tensor | None], rtol: float = 1e-6
) -> None:
    assert {k for k, v in found.items() if v is None} == {
        k for k, v in expected.items() if v is None
    }
    # A bias before a batch norm has a gradient of rounding only: errors count on the step's scale.
    size = max(float(value.abs().max()) for value in expected.values() if value is not None)
    for name, value in expected.items():
        other = found[name]
        if value is not None and other is not None:
            error = float((other - value.to(other)).abs().max())
            assert error <= rtol * size, f"{name}: {error:.1e} of {size:.1e}"


def as_given(form: str, losses: list[Tensor]) -> Tensor | list[Tensor]:
    """Return losses as scalars, as a stack of them, or as one vector."""
    if form == "scalars":
        return losses
    return torch.stack(losses) if form == "stack" else torch.stack(losses) * 1


@pytest.mark.parametrize("with_features", [False, True])
@pytest.mark.parametrize("form", ["scalars", "stack", "vector"])
@pytest.mark.parametrize("kind", ["conv", "mlp"])
@pytest.mark.parametrize("name", COMBINING)
def test_exact_is_the_reference(name: str, kind: str, form: str, with_features: bool) -> None:
    network, inputs, targets = make(kind)
    _, losses = losses_of(network, inputs, targets)
    expected = reference(network, losses, bound(name))
    network.zero_grad()
    features, losses = losses_of(network, inputs, targets)
    weighting = bound(name)
    torch.manual_seed(5)
    step = backward(
        as_given(form, losses),
        weighting,
        **groups(network),
        features=features if with_features else None,
    )
    same(grads(network), expected)
    assert step.way == "exact"
    assert (step.weights is None) == isinstance(weighting, GradientWeighting)


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in COMBINING])
def test_a_loss_weighting_descends_its_objective(name: str) -> None:
    network, inputs, targets = make()
    _, losses = losses_of(network, inputs, targets)
    weighting = bound(name)
    assert isinstance(weighting, LossWeighting)
    torch.manual_seed(5)
    weighting.objective(weighting.transform(torch.stack(losses))).backward()
    expected = grads(network) | {f"w.{k}": v for k, v in grads(weighting).items()}
    network.zero_grad()
    _, losses = losses_of(network, inputs, targets)
    weighting = bound(name)
    torch.manual_seed(5)
    step = backward(losses, weighting, **groups(network))
    same(grads(network) | {f"w.{k}": v for k, v in grads(weighting).items()}, expected)
    assert step.way == "plain"
    assert step.weights is not None


@pytest.mark.parametrize("name", ["fairgrad", "mgda", "graddrop"])
def test_log_losses(name: str) -> None:
    network, inputs, targets = make()
    weighting = load(name, losses="log")
    expected = reference(network, losses_of(network, inputs, targets)[1], weighting)
    network.zero_grad()
    torch.manual_seed(5)
    backward(losses_of(network, inputs, targets)[1], weighting, **groups(network))
    same(grads(network), expected)


@pytest.mark.parametrize("form", ["scalars", "vector"])
@pytest.mark.parametrize("gradients", ["exact", "representation", "matrix_free", "auto"])
@pytest.mark.parametrize("weighted", [False, True])
def test_steps_accumulate(form: str, gradients: str, weighted: bool) -> None:
    network, inputs, targets = make()
    found = []
    for times in (1, 2):
        network.zero_grad()
        for _ in range(times):
            features, losses = losses_of(network, inputs, targets)
            backward(
                as_given(form, losses),
                load("fairgrad"),
                **groups(network),
                features=features,
                gradients=gradients,
                weighted_heads=weighted,
            )
        found.append(grads(network))
    same(found[1], {k: None if v is None else 2 * v for k, v in found[0].items()})


@pytest.mark.parametrize("form", ["scalars", "vector"])
@pytest.mark.parametrize("name", ["fairgrad", "cagrad"])
def test_heads_may_be_weighted(name: str, form: str) -> None:
    network, inputs, targets = make()
    losses = losses_of(network, inputs, targets)[1]
    expected = reference(network, losses, bound(name), weighted=True)
    network.zero_grad()
    features, losses = losses_of(network, inputs, targets)
    backward(
        as_given(form, losses),
        bound(name),
        **groups(network),
        features=features,
        weighted_heads=True,
    )
    same(grads(network), expected)


@pytest.mark.parametrize("gradients", ["exact", "representation", "matrix_free"])
@pytest.mark.parametrize("form", ["scalars", "vector"])
def test_frozen_parameters_stay_without_a_gradient(form: str, gradients: str) -> None:
    network, inputs, targets = make()
    frozen = [network.trunk[0].weight, network.trunk[1].bias, network.heads[1].bias]
    for parameter in frozen:
        parameter.requires_grad_(False)
    expected = reference(network, losses_of(network, inputs, targets)[1], bound("fairgrad"))
    network.zero_grad()
    features, losses = losses_of(network, inputs, targets)
    backward(
        as_given(form, losses),
        bound("fairgrad"),
        **groups(network),
        features=features,
        gradients=gradients,
    )
    assert all(parameter.grad is None for parameter in frozen)
    if gradients == "exact":
        same(grads(network), expected)


@pytest.mark.parametrize("gradients", ["exact", "representation", "matrix_free"])
@pytest.mark.parametrize("form", ["scalars", "vector"])
@pytest.mark.parametrize("name", ["fairgrad", "nashmtl"])
def test_missing_tasks_are_left_out(name: str, form: str, gradients: str) -> None:
    network, inputs, targets = make(tasks=4)
    present = [True, False, True, True]
    losses = losses_of(network, inputs, targets)[1]
    expected = reference(network, losses, bound(name, 4), present)
    network.zero_grad()
    features, losses = losses_of(network, inputs, targets)
    step = backward(
        as_given(form, losses),
        bound(name, 4),
        **groups(network),
        features=features,
        present=torch.tensor(present),
        gradients=gradients,
    )
    assert step.weights is not None
    assert step.weights[1] == 0
    assert (step.weights[[0, 2, 3]] > 0).all()
    if form == "scalars":
        assert network.heads[1].weight.grad is None
    if gradients == "exact" and form == "scalars":
        same(grads(network), expected)


def test_no_task_is_present() -> None:
    network, inputs, targets = make()
    losses = losses_of(network, inputs, targets)[1]
    step = backward(losses, load("mgda"), **groups(network), present=torch.zeros(3))
    assert step.weights is not None
    assert not step.weights.any()
    assert all(value is None for value in grads(network).values())


def test_weights_that_stand_take_one_pass() -> None:
    network, inputs, targets = make()
    weighting = load("nashmtl", update_interval=2)
    found, ways = [], []
    for _ in range(3):
        network.zero_grad()
        step = backward(losses_of(network, inputs, targets)[1], weighting, **groups(network))
        found.append(grads(network))
        ways.append(step.way)
    assert ways == ["exact", "plain", "exact"]
    same(found[1], found[0])


@pytest.mark.parametrize("name", FROM_GRAM)
def test_representation_is_its_definition(name: str) -> None:
    network, inputs, targets = make()
    features, losses = losses_of(network, inputs, targets)
    rows = torch.stack(
        [torch.autograd.grad(loss, features, retain_graph=True)[0].flatten() for loss in losses]
    )
    weighting = bound(name)
    assert isinstance(weighting, GramWeighting)
    assert isinstance(weighting, GramWeighting)
    torch.manual_seed(5)
    weights = weighting.weights(rows @ rows.T)
    features.backward((weights @ rows).view_as(features))
    expected = grads(network.trunk)
    network.zero_grad()
    features, losses = losses_of(network, inputs, targets)
    weighting = bound(name)
    torch.manual_seed(5)
    step = backward(
        losses, weighting, **groups(network), features=features, gradients="representation"
    )
    same(grads(network.trunk), expected)
    assert step.way == "representation"


@pytest.mark.parametrize("gradients", ["exact", "representation", "matrix_free"])
def test_half_precision_forward_passes(gradients: str) -> None:
    network, inputs, targets = make()
    single = network.float()
    found = []
    for half in (False, True):
        single.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            features, losses = losses_of(single, inputs.float(), targets.float())
        backward(
            losses, load("fairgrad"), **groups(network), features=features, gradients=gradients
        )
        found.append(torch.cat([_flat(p) for p in network.trunk.parameters()]))
    assert torch.isfinite(found[1]).all()
    assert nn.functional.cosine_similarity(found[0], found[1], dim=0) > 0.9


def test_mistakes_are_told() -> None:
    network, inputs, targets = make()
    features, losses = losses_of(network, inputs, targets)
    given = groups(network)
    with pytest.raises(UserError, match="did you mean 'exact'"):
        backward(losses, load("mgda"), **given, gradients="exakt")
    for way in ("representation", "matrix_free"):
        with pytest.raises(UserError, match="needs features"):
            backward(losses, load("fairgrad"), **given, gradients=way)
    with pytest.raises(UserError, match="take 'exact'"):
        backward(losses, load("graddrop"), **given, features=features, gradients="representation")
    with pytest.raises(UserError, match="fairgrad, nashmtl"):
        backward(losses, load("mgda"), **given, features=features, gradients="matrix_free")
    with pytest.raises(UserError, match="detached"):
        backward([loss.detach() for loss in losses], load("mgda"), **given)
    with pytest.raises(UserError, match="empty"):
        backward([], load("mgda"), **given)
    with pytest.raises(UserError, match="2 entries, expected 3"):
        backward(losses, load("mgda"), **given, present=torch.ones(2))
    with pytest.raises(UserError, match="nothing to weigh"):
        backward(losses, load("mgda"), shared=[])
    with pytest.raises(UserError, match="used for"):
        backward(losses, load("mgda"), **given, features=inputs, gradients="representation")
    with pytest.raises(UserError, match="another way"):
        backward(
            [losses[0], next(network.trunk.parameters()).abs().sum()],
            load("mgda"),
            **given,
            features=features,
            gradients="representation",
        )


class Sums(nn.Module):
    """Two biases that are added, for which autograd returns one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (self.one + self.other)


@pytest.mark.parametrize("gradients", ["exact", "representation", "matrix_free"])
def test_no_two_parameters_share_a_gradient(gradients: str) -> None:
    trunk, head = Sums(), Sums()
    for times in (1, 2):
        features = trunk(torch.eye(4))
        losses = list(head(features).square().mean(0))
        backward(
            losses,
            load("fairgrad"),
            shared=trunk.parameters(),
            heads=head.parameters(),
            features=features,
            gradients=gradients,
        )
        if times == 1:
            before = [_grad(p).clone() for p in (*trunk.parameters(), *head.parameters())]
    for p, once in zip((*trunk.parameters(), *head.parameters()), before, strict=True):
        torch.testing.assert_close(_grad(p), 2 * once)


@pytest.mark.parametrize("name", ["fairgrad", "nashmtl"])
@pytest.mark.parametrize("tasks", [2, 5, 12])
@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_matrix_free_weights_solve_the_exact_equation(kind: str, tasks: int, name: str) -> None:
    network, inputs, targets = make(kind, tasks)
    weighting = load(name)
    assert isinstance(weighting, FairGrad)
    features, losses = losses_of(network, inputs, targets)
    buffers = {key: value.clone() for key, value in network.named_buffers()}
    step = backward(
        losses, weighting, **groups(network), features=features, gradients="matrix_free"
    )
    assert step.way == "matrix_free"
    assert step.residual <= 1e-2
    assert (weighting.products, weighting.fallbacks) == (step.products, 0)
    assert all(bool((value == buffers[key]).all()) for key, value in network.named_buffers())
    assert step.weights is not None
    found = torch.cat([_flat(p) for p in network.trunk.parameters()])
    rows = []
    for loss in losses_of(network, inputs, targets)[1]:
        network.zero_grad()
        loss.backward(retain_graph=True)
        rows.append(torch.cat([_flat(p) for p in network.trunk.parameters()]))
    matrix = torch.stack(rows)
    weights = step.weights
    right = weights ** (-1 / weighting.alpha)
    residual = float(((matrix @ matrix.T @ weights - right) / right).abs().max())
    assert residual == pytest.approx(step.residual, abs=1e-6)
    torch.testing.assert_close(found, weights @ matrix)


class Opaque(torch.autograd.Function):
    """An operation that autograd cannot look into."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        return inputs * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * 2


def test_what_has_no_second_derivative_is_exact_and_counted() -> None:
    network, inputs, targets = make()
    weighting = load("fairgrad")
    assert isinstance(weighting, FairGrad)
    found = []
    for gradients in ("exact", "matrix_free"):
        network.zero_grad()
        features = Opaque.apply(network.trunk(inputs))  # type: ignore[no-untyped-call]
        outputs = [head(features + network.common(features)) for head in network.heads]
        losses = [(o[:, 0] - t).square().mean() for o, t in zip(outputs, targets.T, strict=True)]
        step = backward(
            losses, weighting, **groups(network), features=features, gradients=gradients
        )
        assert step.way == "exact"
        found.append(grads(network))
    same(found[1], found[0])
    assert weighting.fallbacks == 1
    copy = load("fairgrad")
    copy.load_state_dict(weighting.state_dict())
    assert isinstance(copy, FairGrad)
    assert (copy.fallbacks, copy.products) == (1, weighting.products)


def test_auto_takes_the_cheaper_exact_way() -> None:
    ways = []
    for tasks, features_given in ((3, True), (20, True), (20, False)):
        network, inputs, targets = make("mlp", tasks)
        features, losses = losses_of(network, inputs, targets)
        ways.append(
            backward(
                losses,
                load("fairgrad"),
                **groups(network),
                features=features if features_given else None,
                gradients="auto",
            ).way
        )
    assert ways == ["exact", "matrix_free", "exact"]
    network, inputs, targets = make("mlp", 20)
    features, losses = losses_of(network, inputs, targets)
    step = backward(losses, load("mgda"), **groups(network), features=features, gradients="auto")
    assert step.way == "exact"


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "strided": lambda: nn.Conv2d(2, 4, 3, stride=2, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(2, 4, 3, stride=2),
    "eval batch norm": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4).eval()),
    "group norm": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)),
    "dropout": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Dropout(0.5), nn.SiLU(inplace=True)),
    "pools": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)
    ),
    "frozen": lambda: nn.Sequential(nn.Conv2d(2, 4, 3).requires_grad_(False), nn.PReLU()),
    "layer norm": lambda: nn.Sequential(
        nn.Flatten(2),
        nn.Linear(36, 8),
        nn.LayerNorm(8),
        nn.Linear(8, 4, bias=False),
        nn.Hardswish(),
    ),
    "embedding": lambda: nn.Sequential(Places(), nn.Embedding(9, 4), nn.Softmax(-1)),
    "recurrent": lambda: nn.Sequential(nn.Flatten(2), Last(nn.GRU(36, 4, batch_first=True))),
}


class Places(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs[:, 0, 0].abs() * 4).long().clamp(max=8)


class Last(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.inner(inputs)[0]
        return found


@pytest.mark.parametrize("name", LAYERS)
def test_jacobian_vector_products_are_the_transposed(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    features = layer(torch.randn(5, 2, 6, 6).double())
    parameters = [p for p in layer.parameters() if p.requires_grad]
    towards = [torch.randn_like(p) for p in parameters]
    product = Tangents([features], parameters)(towards)[0]
    against = torch.randn_like(features)
    back = torch.autograd.grad(features, parameters, against)
    forth = sum(float((g * t).sum()) for g, t in zip(back, towards, strict=True))
    assert float((product * against).sum()) == pytest.approx(forth, rel=1e-9)


@pytest.mark.parametrize("gradients", ["exact", "matrix_free"])
def test_compiled_trunks_are_exact(gradients: str) -> None:
    network, inputs, targets = make("mlp")
    compiled = torch.compile(network.trunk, backend="aot_eager")
    found = []
    for trunk in (network.trunk, compiled):
        network.zero_grad()
        features = trunk(inputs)
        losses = [
            (h(features) - t).square().mean() for h, t in zip(network.heads, targets.T, strict=True)
        ]
        way = "exact" if trunk is network.trunk else gradients
        backward(losses, load("fairgrad"), **groups(network), features=features, gradients=way)
        found.append(grads(network))
    same(found[1], found[0])


def test_the_documented_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[3] / "docs" / "weighting.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert "tensor" in capsys.readouterr().out
    assert (names["step"].weights > 0).all()
    assert len(example.splitlines()) <= 25
