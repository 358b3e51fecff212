"""Steps with any network: accumulation, half precision, mistakes."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.weighting import (
    GramWeighting,
    backward,
    load_weighting,
)
from tests.support.networks import (
    FROM_GRAM,
    assert_same_gradients,
    compute_losses,
    copy_gradients,
    flatten_gradient,
    format_losses,
    get_gradient,
    group_parameters,
    make_network,
    make_weighting,
)


@pytest.mark.parametrize("form", ["scalars", "vector"])
@pytest.mark.parametrize("strategy", ["exact", "representation", "matrix_free", "auto"])
@pytest.mark.parametrize("weighted", [False, True])
def test_steps_accumulate(form: str, strategy: str, weighted: bool) -> None:
    network, inputs, targets = make_network()
    found = []
    for times in (1, 2):
        network.zero_grad()
        for _ in range(times):
            features, losses = compute_losses(network, inputs, targets)
            backward(
                format_losses(form, losses),
                load_weighting("fairgrad"),
                **group_parameters(network),
                features=features,
                strategy=strategy,
                weighted_heads=weighted,
            )
        found.append(copy_gradients(network))
    assert_same_gradients(found[1], {k: None if v is None else 2 * v for k, v in found[0].items()})


@pytest.mark.parametrize("name", FROM_GRAM)
def test_representation_is_its_definition(name: str) -> None:
    network, inputs, targets = make_network()
    features, losses = compute_losses(network, inputs, targets)
    rows = torch.stack(
        [torch.autograd.grad(loss, features, retain_graph=True)[0].flatten() for loss in losses]
    )
    weighting = make_weighting(name)
    assert isinstance(weighting, GramWeighting)
    assert isinstance(weighting, GramWeighting)
    torch.manual_seed(5)
    weights = weighting.compute_weights(rows @ rows.T)
    features.backward((weights @ rows).view_as(features))
    expected = copy_gradients(network.trunk)
    network.zero_grad()
    features, losses = compute_losses(network, inputs, targets)
    weighting = make_weighting(name)
    torch.manual_seed(5)
    step = backward(
        losses, weighting, **group_parameters(network), features=features, strategy="representation"
    )
    assert_same_gradients(copy_gradients(network.trunk), expected)
    assert step.strategy == "representation"


@pytest.mark.parametrize("strategy", ["exact", "representation", "matrix_free"])
def test_half_precision_forward_passes(strategy: str) -> None:
    network, inputs, targets = make_network()
    single = network.float()
    found = []
    for half in (False, True):
        single.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            features, losses = compute_losses(single, inputs.float(), targets.float())
        backward(
            losses,
            load_weighting("fairgrad"),
            **group_parameters(network),
            features=features,
            strategy=strategy,
        )
        found.append(torch.cat([flatten_gradient(p) for p in network.trunk.parameters()]))
    assert torch.isfinite(found[1]).all()
    assert nn.functional.cosine_similarity(found[0], found[1], dim=0) > 0.9


def test_mistakes_are_refused() -> None:
    network, inputs, targets = make_network()
    features, losses = compute_losses(network, inputs, targets)
    given = group_parameters(network)
    with pytest.raises(ValueError, match="did you mean 'exact'"):
        backward(losses, load_weighting("mgda"), **given, strategy="exakt")
    for strategy in ("representation", "matrix_free"):
        with pytest.raises(ValueError, match="needs features"):
            backward(losses, load_weighting("fairgrad"), **given, strategy=strategy)
    with pytest.raises(ValueError, match="use 'exact'"):
        backward(
            losses,
            load_weighting("graddrop"),
            **given,
            features=features,
            strategy="representation",
        )
    with pytest.raises(ValueError, match="fairgrad and nashmtl"):
        backward(losses, load_weighting("mgda"), **given, features=features, strategy="matrix_free")
    with pytest.raises(ValueError, match="detached"):
        backward([loss.detach() for loss in losses], load_weighting("mgda"), **given)
    with pytest.raises(ValueError, match="empty"):
        backward([], load_weighting("mgda"), **given)
    with pytest.raises(ValueError, match="2 entries, expected 3"):
        backward(losses, load_weighting("mgda"), **given, present=torch.ones(2))
    with pytest.raises(TypeError, match=r"holds 1\.0"):
        backward([losses[0], 1.0], load_weighting("mgda"), **given)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="nothing to weight"):
        backward(losses, load_weighting("mgda"), shared=[])
    for wrong in (network, network.unused, network.named_parameters(), [features]):
        with pytest.raises(TypeError, match="expected several parameters"):
            backward(losses, load_weighting("mgda"), shared=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="heads has complex numbers"):
        backward(
            losses,
            load_weighting("mgda"),
            shared=given["shared"],
            heads=[network.unused.detach() * 1j],
        )
    with pytest.raises(ValueError, match="3 parameters are in shared and in heads"):
        backward(losses, load_weighting("mgda"), shared=given["heads"], heads=given["heads"][:3])
    with pytest.raises(TypeError, match="result of load_weighting"):
        backward(losses, "mgda", **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="used for"):
        backward(
            losses, load_weighting("mgda"), **given, features=inputs, strategy="representation"
        )
    with pytest.raises(ValueError, match="past the features"):
        backward(
            [losses[0], next(network.trunk.parameters()).abs().sum()],
            load_weighting("mgda"),
            **given,
            features=features,
            strategy="representation",
        )


def test_sparse_gradients_become_dense() -> None:
    words, head = nn.EmbeddingBag(9, 4, mode="sum", sparse=True), nn.Linear(4, 3)
    found = []
    for strategy in ("exact", "representation", "matrix_free"):
        words.zero_grad()
        features = words(torch.arange(6).view(3, 2))
        losses = list(head(features).square().mean(0))
        backward(
            losses,
            load_weighting("nashmtl"),
            shared=words.parameters(),
            features=features,
            strategy=strategy,
        )
        found.append(get_gradient(words.weight))
    # Each word occurs once in a sum: both Gram matrices are alike.
    torch.testing.assert_close(found[1], found[0] * (found[1].norm() / found[0].norm()))
    torch.testing.assert_close(found[2], found[0])


class Sums(nn.Module):
    """Two biases that are added, for which autograd returns one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (self.one + self.other)


@pytest.mark.parametrize("strategy", ["exact", "representation", "matrix_free"])
def test_no_two_parameters_share_a_gradient(strategy: str) -> None:
    trunk, head = Sums(), Sums()
    for times in (1, 2):
        features = trunk(torch.eye(4))
        losses = list(head(features).square().mean(0))
        backward(
            losses,
            load_weighting("fairgrad"),
            shared=trunk.parameters(),
            heads=head.parameters(),
            features=features,
            strategy=strategy,
        )
        if times == 1:
            before = [get_gradient(p).clone() for p in (*trunk.parameters(), *head.parameters())]
    for p, once in zip((*trunk.parameters(), *head.parameters()), before, strict=True):
        torch.testing.assert_close(get_gradient(p), 2 * once)


@pytest.mark.parametrize("strategy", ["exact", "matrix_free"])
def test_compiled_trunks_are_exact(strategy: str) -> None:
    network, inputs, targets = make_network("mlp")
    compiled = torch.compile(network.trunk, backend="aot_eager")
    found = []
    for trunk in (network.trunk, compiled):
        network.zero_grad()
        features = trunk(inputs)
        losses = [
            (h(features) - t).square().mean() for h, t in zip(network.heads, targets.T, strict=True)
        ]
        backward(
            losses,
            load_weighting("fairgrad"),
            **group_parameters(network),
            features=features,
            strategy="exact" if trunk is network.trunk else strategy,
        )
        found.append(copy_gradients(network))
    assert_same_gradients(found[1], found[0])


def test_the_documented_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[4] / "docs" / "weighting.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert "tensor" in capsys.readouterr().out
    assert (names["step"].weights > 0).all()
    assert len(example.splitlines()) <= 20
