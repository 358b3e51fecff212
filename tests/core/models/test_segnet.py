"""SegNet and MTAN have the published sizes and agree with a reference."""

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from core.batch import Output
from core.models import build_model
from core.models.base import Model
from core.models.segnet import SegNet
from core.models.segnet_deep import SegNetDeep
from core.models.segnet_wide import SegNetWide
from core.objectives.task_losses import cosine, cross_entropy, masked_l1
from datasets.multitask.dense_metrics import Depth, Normals, Segmentation
from tests.support.dense_files import frame

NYUV2 = {"segmentation": 13, "depth": 1, "normals": 3}
CITYSCAPES = {"segmentation": 7, "depth": 1}
FILTERS = (64, 128, 256, 512, 512)
SMALL = (8, 16, 32, 64, 64)
NAMES = ("segnet_small", "segnet_mtan_small")


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def count_conv(inputs: int, outputs: int, kernel: int, norm: bool = True) -> int:
    """Count the parameters of a convolution with biases and of its batch norm."""
    return (kernel**2 * inputs + 1) * outputs + 2 * outputs * norm


def count_head(width: int, outputs: int) -> int:
    return count_conv(width, width, 3, norm=False) + count_conv(width, outputs, 1, norm=False)


def count_trunk(f: tuple[int, ...]) -> int:
    """Count those of encoder and decoder: VGG's 13 convolutions, single at the 2 finest stages."""
    encoder = [(3, f[0]), (f[0], f[0]), (f[0], f[1]), (f[1], f[1])]
    for stage in (2, 3, 4):
        encoder += [(f[stage - 1], f[stage]), (f[stage], f[stage]), (f[stage], f[stage])]
    decoder = [(f[0], f[0]), (f[0], f[0]), (f[1], f[0]), (f[0], f[0])]
    for stage in (2, 3, 4):
        decoder += [(f[stage], f[stage - 1]), *[(f[stage - 1], f[stage - 1])] * 2]
    return sum(count_conv(*pair, 3) for pair in encoder + decoder)


def count_attention(f: tuple[int, ...], tasks: int) -> int:
    """Count those of MTAN's masks per task and of the shared blocks between them."""
    narrow = (f[0], *f[:-1])
    masks = [(f[0], f[0]), *((2 * width, width) for width in f[1:])]
    masks += [(a + b, b) for a, b in zip(f, narrow, strict=True)]
    own = sum(count_conv(a, b, 1) + count_conv(b, b, 1) for a, b in masks)
    between = [*zip(f, (*f[1:], f[-1]), strict=True), *zip(f, narrow, strict=True)]
    return tasks * own + sum(count_conv(a, b, 3) for a, b in between)


@pytest.mark.parametrize("outputs", [NYUV2, CITYSCAPES, {"segmentation": 13}])
@pytest.mark.parametrize(
    ("name", "filters"),
    [("segnet", FILTERS), ("segnet_small", SMALL), ("segnet_mtan", FILTERS),
     ("segnet_mtan_small", SMALL)],
)  # fmt: skip
def test_parameter_count(name: str, filters: tuple[int, ...], outputs: dict[str, int]) -> None:
    with torch.device("meta"):
        model = build_model(name, outputs)
    heads = sum(count_head(filters[0], n) for n in outputs.values())
    extra = count_attention(filters, len(outputs)) if "mtan" in name else 0
    assert count_parameters(model) == count_trunk(filters) + extra + heads
    assert sum(count_parameters(module) for module in model.get_task_heads().values()) == heads
    assert list(model.get_task_heads()) == list(outputs)


@pytest.mark.parametrize(
    ("name", "outputs", "published"),
    [
        # The size of single-task SegNet, to which MTAN's training scripts relate all others.
        ("segnet", {"segmentation": 13}, 24_981_069),
        ("segnet", NYUV2, 25_055_185),
        ("segnet_mtan", NYUV2, 44_229_073),
        ("segnet_mtan", CITYSCAPES, 41_206_984),
    ],
)
def test_published_sizes(name: str, outputs: dict[str, int], published: int) -> None:
    with torch.device("meta"):
        assert count_parameters(build_model(name, outputs)) == published


@pytest.mark.parametrize("name", NAMES)
def test_all_but_prediction_layers_are_shared(name: str) -> None:
    model = build_model(name, NYUV2)
    own = {id(p) for module in model.get_task_heads().values() for p in module.parameters()}
    for parameter_name, parameter in model.named_parameters():
        assert ("pred" in parameter_name) == (id(parameter) in own)


class Reference:
    """A model's layers one by one, in training mode (batch statistics)."""

    def __init__(self, model: Model) -> None:
        self.state: Mapping[str, Tensor] = model.state_dict()

    def apply_conv(self, x: Tensor, name: str, padding: int) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return functional.conv2d(x, weight, bias, padding=padding)

    def apply_norm(self, x: Tensor, name: str) -> Tensor:
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        x = (x - mean) / (variance + 1e-5).sqrt()
        return x * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)

    def apply_block(self, x: Tensor, name: str) -> Tensor:
        return self.apply_norm(self.apply_conv(x, f"{name}.0", 1), f"{name}.1").clamp(min=0)

    def apply_rest(self, x: Tensor, name: str, stage: int) -> Tensor:
        for number in range(1 if stage < 2 else 2):
            x = self.apply_block(x, f"{name}.{stage}.{number}")
        return x

    def compute_mask(self, x: Tensor, name: str) -> Tensor:
        x = self.apply_norm(self.apply_conv(x, f"{name}.0", 0), f"{name}.1").clamp(min=0)
        return 1 / (1 + (-self.apply_norm(self.apply_conv(x, f"{name}.3", 0), f"{name}.4")).exp())

    def apply_head(self, x: Tensor, task: str) -> Tensor:
        x = self.apply_conv(self.apply_conv(x, f"pred.{task}.0", 1), f"pred.{task}.1", 0)
        return x / (x**2).sum(dim=1, keepdim=True).sqrt() if task == "normals" else x

    def compute_maps(
        self, x: Tensor
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Return first and last encoder maps, and unpooled and decoded maps, by stage."""
        first, last, indices = [], [], []
        for stage in range(5):
            first.append(self.apply_block(x, f"encoder_first.{stage}"))
            last.append(self.apply_rest(first[-1], "encoder_rest", stage))
            x, index = functional.max_pool2d(last[-1], 2, 2, return_indices=True)
            indices.append(index)
        unpooled: list[Tensor] = [x] * 5
        decoded: list[Tensor] = [x] * 5
        for stage in (4, 3, 2, 1, 0):
            size = last[stage].shape[-2:]
            unpooled[stage] = functional.max_unpool2d(x, indices[stage], [2, 2], output_size=size)
            x = self.apply_block(unpooled[stage], f"decoder_first.{stage}")
            x = decoded[stage] = self.apply_rest(x, "decoder_rest", stage)
        return first, last, unpooled, decoded

    def predict_segnet(self, x: Tensor, tasks: list[str]) -> dict[str, Tensor]:
        decoded = self.compute_maps(x)[3]
        return {task: self.apply_head(decoded[0], task) for task in tasks}

    def predict_mtan(self, x: Tensor, tasks: list[str]) -> dict[str, Tensor]:
        first, last, unpooled, decoded = self.compute_maps(x)
        found = {}
        for task in tasks:
            seen = first[0]
            for stage in range(5):
                attended = (
                    self.compute_mask(seen, f"encoder_attention.{task}.{stage}") * last[stage]
                )
                x = functional.max_pool2d(
                    self.apply_block(attended, f"encoder_between.{stage}"), 2, 2
                )
                if stage < 4:
                    seen = torch.cat([first[stage + 1], x], dim=1)
            for stage in (4, 3, 2, 1, 0):
                size = unpooled[stage].shape[-2:]
                x = functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
                x = self.apply_block(x, f"decoder_between.{stage}")
                seen = torch.cat([unpooled[stage], x], dim=1)
                x = self.compute_mask(seen, f"decoder_attention.{task}.{stage}") * decoded[stage]
            found[task] = self.apply_head(x, task)
        return found


def make_model(name: str, outputs: dict[str, int] = NYUV2, seed: int = 0) -> Model:
    """Return a model in double precision with random batch norms and biases."""
    torch.manual_seed(seed)
    model = build_model(name, outputs).double()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model


@pytest.fixture
def nondeterministic() -> Iterator[None]:
    """Permit torch's own unpooling, which an earlier test's run may have forbidden."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.usefixtures("nondeterministic")
@pytest.mark.parametrize("size", [(32, 64), (64, 96), (37, 53)])
@pytest.mark.parametrize("name", NAMES)
def test_forward_agrees_with_reference(name: str, size: tuple[int, int]) -> None:
    model = make_model(name)
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    reference = Reference(model)
    expected = (reference.predict_mtan if "mtan" in name else reference.predict_segnet)(
        images, list(NYUV2)
    )
    found = model(images)
    for task, channels in NYUV2.items():
        assert found.outputs[task].shape == (2, channels, *size)
        torch.testing.assert_close(found.outputs[task], expected[task])
    torch.testing.assert_close(found.representation, reference.compute_maps(images)[3][0])


@pytest.mark.parametrize("name", NAMES)
def test_normals_have_unit_length(name: str) -> None:
    normals = (
        make_model(name).eval()(torch.rand(2, 3, 32, 32, dtype=torch.float64)).outputs["normals"]
    )
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(2, 32, 32, dtype=torch.float64))


@pytest.mark.medium
@pytest.mark.parametrize("name", NAMES)
def test_normals_have_unit_length_in_half_precision_too(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, NYUV2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        normals = model(torch.rand(2, 3, 64, 64)).outputs["normals"]
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(2, 64, 64))


def test_segnet_predicts_from_its_features() -> None:
    model = make_model("segnet_small")
    found: Output = model(torch.rand(2, 3, 32, 32, dtype=torch.float64))
    assert found.features is not None
    assert not isinstance(found.outputs, Tensor)
    (feature,) = found.features
    for task in ("segmentation", "depth"):
        torch.testing.assert_close(model.get_task_heads()[task](feature), found.outputs[task])


def test_task_attention_has_no_common_features() -> None:
    found = make_model("segnet_mtan_small")(torch.rand(2, 3, 32, 32, dtype=torch.float64))
    assert found.features is None


@pytest.mark.medium
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_its_tasks_gradients(name: str) -> None:
    model = make_model(name)
    outputs = model(torch.rand(2, 3, 64, 64, dtype=torch.float64)).outputs
    losses = {task: (output**3).mean() for task, output in outputs.items()}
    shared = [(n, p) for n, p in model.named_parameters() if "pred" not in n]
    for task, loss in losses.items():
        gradients = torch.autograd.grad(
            loss, [p for _, p in shared], retain_graph=True, allow_unused=True
        )
        for (parameter, _), gradient in zip(shared, gradients, strict=True):
            others = set(NYUV2) - {task}
            foreign = any(f"attention.{other}." in parameter for other in others)
            assert (gradient is None) == foreign, parameter
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_training_fits_pixelwise_targets(name: str) -> None:
    frames = [frame("nyuv2", (32, 48), seed) for seed in range(2)]
    stacked = {part: torch.from_numpy(np.stack([f[part] for f in frames])) for part in frames[0]}
    images = stacked["image"].movedim(3, 1)
    targets = {"segmentation": stacked["label"].to(torch.int8)}
    targets |= {"depth": stacked["depth"].movedim(3, 1), "normals": stacked["normal"].movedim(3, 1)}
    losses = {"segmentation": cross_entropy, "depth": masked_l1, "normals": cosine}
    torch.manual_seed(0)
    model = build_model(name, NYUV2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        outputs = model(images).outputs
        optimizer.zero_grad()
        values = [loss(outputs[task], targets[task]) for task, loss in losses.items()]
        torch.stack(values).sum().backward()
        optimizer.step()
    found: dict[str, float] = {}
    for task, metric in (("segmentation", Segmentation(13)), ("depth", Depth()),
                         ("normals", Normals())):  # fmt: skip
        metric.update(outputs[task].detach(), targets[task])
        found |= metric.compute_metrics()
    assert found["segmentation_pixel_accuracy"] > 0.5
    assert found["depth_absolute_error"] < 0.5
    assert found["normals_mean_angle"] < 12


def test_too_small_images_are_refused() -> None:
    with pytest.raises(UserError, match="31x64 pixels, expected at least 32x32"):
        build_model("segnet_small", NYUV2)(torch.rand(1, 3, 31, 64))


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_are_xavier_normal(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, NYUV2)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            assert not module.bias.any()
            area = module.kernel_size[0] ** 2
            deviation = (2 / (area * (module.in_channels + module.out_channels))) ** 0.5
            if module.weight.numel() > 2000:
                assert float(module.weight.detach().std()) == pytest.approx(deviation, rel=0.1)


@pytest.mark.medium
def test_wide_and_deep_segnets_have_the_published_layers() -> None:
    """MTAN's variants: 1024 filters at the coarsest stage; two convolutions in each block."""

    def count(kind: type[SegNet]) -> tuple[int, int]:
        model = kind({"segmentation": 13, "depth": 1, "normals": 3})
        convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
        assert set(model(torch.rand(2, 3, 32, 32)).outputs) == {
            "segmentation", "depth", "normals",
        }  # fmt: skip
        return len(convolutions), max(m.out_channels for m in convolutions)

    heads, blocks = 6, 26  # 13 in the encoder, 13 in the decoder
    assert count(SegNet) == (heads + blocks, 512)
    assert count(SegNetWide) == (heads + blocks, 1024)
    assert count(SegNetDeep) == (heads + 2 * blocks, 512)
