"""Differences from the published code that no other test holds, with its own outputs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy, interpolate

from common.hyperparameters import Hyperparameter
from core.environment import Environment
from core.models.patch_encoder import PixelDecoder
from core.models.vit import _make_bicubic_matrix
from core.objectives.task_losses import binary_cross_entropy as from_logits
from core.objectives.task_losses import cosine
from core.objectives.views import compute_blur_width
from core.recipe.method_files import load_method
from core.stages.identify_errors import IdentifyErrors
from core.training.optimizers import make_optimizer, make_schedule
from core.weighting import load_weighting, solve_alpha_fair
from core.weighting.gradients.backward import backward
from datasets.training_config import TrainingConfig
from tests.core.training.test_run import rows, start

# Outputs of the published code, at the commit that the file names.
GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))


def draw_gradients(key: str) -> np.ndarray:
    """Return the gradients that the published solver was given, ``(k, 60)``."""
    tasks, seed = map(int, key.split("/"))
    random = np.random.RandomState(seed)
    values = random.standard_normal((tasks, 60)).astype(np.float32)
    return values * np.exp(random.standard_normal((tasks, 1))).astype(np.float32)


@pytest.mark.deviation("mgda")
def test_mgda_of_forty_tasks_is_shorter_than_published() -> None:
    ratios: dict[int, list[float]] = {2: [], 3: [], 40: []}
    for key, published in GOLDEN["mgda"].items():
        gradients = torch.from_numpy(draw_gradients(key)).double()
        weights = load_weighting("mgda").compute_weights(gradients @ gradients.T)  # type: ignore[operator]
        length = float((weights @ gradients).norm())
        ratios[len(gradients)].append(published / length)
    assert ratios[2] + ratios[3] == pytest.approx([1.0] * 10, rel=1e-6)
    assert ratios[40] == pytest.approx([1.21, 1.00, 1.17, 1.40, 1.98], abs=0.006)


@pytest.mark.deviation("opposed-gradients", "alpha-fair-solver")
@pytest.mark.parametrize("ratio", ["1.0", "3.0", "10.0"])
def test_opposed_gradients_stop_ours_and_not_the_published_search(ratio: str) -> None:
    gradients = torch.tensor([[1.0, 0.0], [-float(ratio), 0.0]], dtype=torch.float64)
    gram = gradients @ gradients.T
    published = torch.tensor(GOLDEN["fairgrad_opposed"][ratio], dtype=torch.float64)
    residual = (gram @ published - published.rsqrt()) * published.sqrt()
    assert residual.abs().max() > 0.99
    assert published.min() > 1000
    found = solve_alpha_fair(gram, 2.0)
    assert found.status == "no_solution"
    assert float((found.weights @ gradients).norm()) < 1e-9


@pytest.mark.deviation("log-mgda")
def test_log_mgda_is_longer_by_the_published_divisor() -> None:
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    losses = torch.stack([(x[0] - 3).square() + 1, (x[1] + 1).square() + 0.5])
    ours = load_weighting("mgda", losses="log")
    result = backward(losses, ours, shared=[x])
    assert x.grad is not None
    found, weights = x.grad.clone(), result.weights
    assert weights is not None
    divisor = float((weights / losses.detach()).sum())
    x.grad = None
    again = torch.stack([(x[0] - 3).square() + 1, (x[1] + 1).square() + 0.5])
    (again.log() * weights / divisor).sum().backward()
    torch.testing.assert_close(found / divisor, x.grad)
    assert abs(divisor - 1) > 0.1


@pytest.mark.deviation("jtt-selection")
def test_no_epoch_of_the_first_stage_is_eligible() -> None:
    run = start("jtt", "colored_digits", epochs=2, T=2)
    assert [row.eligible for row in rows(run)] == [False, False, True, True]
    assert not IdentifyErrors.eligible


@pytest.mark.deviation("stage-schedule")
def test_each_stage_has_a_schedule_of_its_own() -> None:
    run = start("jtt", "colored_digits", epochs=3, T=2, schedule="linear", lr=0.01)
    rates = []
    while run.epochs_done < run.total_epochs:
        run.train_epoch()
        rates.append(run.stage_state.optimizer.param_groups[0]["lr"])
    # After each epoch: half of stage 1, the start of stage 2, and its thirds.
    assert rates == pytest.approx([0.005, 0.01, 0.02 / 3, 0.01 / 3, 0], abs=1e-9)


@pytest.mark.deviation("warmup", "warmup-fraction")
def test_warm_up_is_a_share_of_the_steps_rounded() -> None:
    assert TrainingConfig.__dataclass_fields__["warmup"].default == 0
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    config = TrainingConfig(
        model="digits_cnn", epochs=1, lr=1.0, weight_decay=0.0, batch_size=1, schedule="linear",
        warmup=0.06,
    )  # fmt: skip
    steps = 90  # 5.4 steps of warm-up
    schedule = make_schedule(optimizer, config, steps)
    assert schedule is not None
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:6] == pytest.approx([i / 5 for i in range(6)])
    published = [min(i / 5.4, (steps - i) / (steps - 5.4)) for i in range(steps)]
    assert 0.07 < max(abs(a - b) for a, b in zip(rates, published, strict=True)) < 0.08


@pytest.mark.deviation("adamw")
@pytest.mark.parametrize("gradient", [1e-2, 1e-3, -1e-3])
def test_adamw_is_torchs(gradient: float) -> None:
    def take_published_steps(lr: float, decay: float, steps: int) -> float:
        value, first, second = 1.0, 0.0, 0.0
        for step in range(1, steps + 1):
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            size = lr * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            value -= size * first / (math.sqrt(second) + 1e-8)
            value -= lr * decay * value
        return value

    config = TrainingConfig(
        model="digits_cnn", epochs=1, lr=1e-3, weight_decay=0.0, batch_size=1, optimizer="adamw"
    )
    module = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.ones_(module.weight)
    optimizer = make_optimizer(module, load_weighting("ls"), config)
    for steps in range(1, 20):
        module.weight.grad = torch.full((1, 1), gradient, dtype=torch.float64)
        optimizer.step()
        ours, published = 1 - module.weight.item(), 1 - take_published_steps(1e-3, 0.0, steps)
        assert ours == pytest.approx(published, rel=4e-4)
        assert ours != published


@pytest.mark.deviation("position-interpolation")
def test_positions_are_interpolated_to_the_exact_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn(1, 64, 14, 14, generator=generator)
    exact = interpolate(positions, size=(24, 24), mode="bicubic")
    ours = _make_bicubic_matrix(14, 24) @ positions[0].flatten(1).T
    torch.testing.assert_close(ours.T.unflatten(1, (24, 24)), exact[0], atol=1e-5, rtol=1e-5)
    published = interpolate(positions, scale_factor=(24.1 / 14,) * 2, mode="bicubic")
    assert float((exact - published).std() / exact.std()) == pytest.approx(0.07, abs=0.01)


@pytest.mark.deviation("decoder-start")
def test_the_decoder_starts_from_torchs_distribution() -> None:
    torch.manual_seed(0)
    first = PixelDecoder(768, 3, 16).pixels[0]
    assert isinstance(first, torch.nn.Conv2d)
    start_values = first.weight.detach()
    assert float(start_values.abs().max()) <= 768**-0.5  # a normal one would go on
    assert float(start_values.std()) == pytest.approx(768**-0.5 / math.sqrt(3), rel=0.01)


@pytest.mark.deviation("blur")
def test_the_blur_is_39_wide() -> None:
    assert compute_blur_width(384) == 38 // 2 * 2 + 1 == 39


@pytest.mark.deviation("auxiliary-batch")
def test_the_second_task_has_as_many_examples() -> None:
    run = start("erm_mt", "colored_digits", epochs=1, batch_size=16)
    objective = run.context.objectives[1]
    assert vars(objective)["batch_size"] == 0
    assert load_method("erm_mt").search["mt_batch_size"].default == 0


@pytest.mark.deviation("dro-step", "famo-gamma", "fairgrad-alpha", "uw-rate")
def test_defaults_and_ranges_are_as_stated() -> None:
    eta = Hyperparameter("log_uniform", (1e-3, 1e-1), 0.1)
    assert load_method("dro").search["eta"] == eta
    famo = load_method("famo")
    assert famo.search["gamma"].default == 0.001
    assert {d: v["gamma"] for d, v in famo.published.items() if v.get("gamma", 0.001) != 0.001} == {
        "cityscapes": 0.01
    }
    assert load_method("fairgrad").search["alpha"].default == 2.0
    assert load_method("uw").search["weights_lr"].default == 0.025


@pytest.mark.deviation("uw-rate", "uw-celeba")
def test_uncertainties_are_not_decayed_and_have_a_rate_of_their_own() -> None:
    run = start("uw", "two_digits", weight_decay=0.1)
    group = run.stage_state.optimizer.param_groups[-1]
    assert (group["lr"], group["weight_decay"]) == (0.025, 0.0)
    assert group["params"] == list(run.stage_state.weighting.parameters())


@pytest.mark.deviation("bfloat16", "cudnn")
def test_precision_and_algorithms() -> None:
    half = Environment("cpu", "cpu", "bfloat16", 1, False)
    with half.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == torch.bfloat16
    with Environment("cpu", "cpu", "float32", 1, False).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert torch.backends.cudnn.enabled
    before = torch.backends.cudnn.benchmark
    half.configure_process()
    assert torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before


@pytest.mark.deviation("logits")
def test_attributes_have_the_published_loss() -> None:
    logits = torch.linspace(-8, 8, 33)
    targets = (torch.arange(33) % 2).float()
    torch.testing.assert_close(
        from_logits(logits, targets), binary_cross_entropy(logits.sigmoid(), targets)
    )
    assert from_logits(torch.tensor([1e4]), torch.tensor([0.0])).isfinite()


@pytest.mark.deviation("normal-loss")
def test_short_normals_cost_nothing() -> None:
    direction = torch.tensor([0.6, 0.0, 0.8]).view(1, 3, 1, 1)
    assert float(cosine(direction, direction)) == pytest.approx(0, abs=1e-6)
    assert float(cosine(direction, 0.5 * direction)) == pytest.approx(0, abs=1e-6)
    published = 1 - (direction * 0.5 * direction).sum()
    assert float(published) == pytest.approx(0.5)


@pytest.mark.deviation("published-baselines", "clipping")
def test_nash_mtls_clipping_can_be_had() -> None:
    assert start("pcgrad", "two_digits", clip_norm=0.0).context.config.clip_norm == 0
    nash = start("nashmtl", "two_digits", clip_norm=1.0, clip="shared").context.config
    assert (nash.clip_norm, nash.clip) == (1.0, "shared")
    assert start("nashmtl", "two_digits").context.config.clip_norm == 0
    assert start("pcgrad", "two_digits").context.config.clip_norm == 1
