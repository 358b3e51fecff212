"""Names of models: public ones without an owner, backbones, folders; and timm's backbones."""

from importlib.util import find_spec
from pathlib import Path

import huggingface_hub
import pytest
import torch

from common.errors import UserError
from core import models
from core.models.image_backbone import ImageBackbone
from core.models.pretrained import weights
from core.models.pretrained.public_names import FULL_NAMES, list_hub_names
from tests.core.models.pretrained.test_families import TEXTS, save
from tests.core.models.pretrained.test_family_runs import run, write_data

NO_TIMM = "timm is not installed: it is in requirements-timm.txt, not in requirements-dev.txt"


@pytest.mark.parametrize("name", sorted(FULL_NAMES))
def test_public_names_without_an_owner(name: str) -> None:
    assert models.check_model_name(name) is None
    assert list_hub_names(name) == [name, FULL_NAMES[name]]
    assert list_hub_names(FULL_NAMES[name]) == [FULL_NAMES[name], name]
    rule = models.check_model_name(f"{name[:4]}{name[5:]}")
    assert rule is not None
    assert "did you mean" in rule


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet18", "(did you mean 'torchvision/resnet18'?)"),
        ("vit_b_16", "(did you mean 'torchvision/vit_b_16'?)"),
        ("robeta-base", "(did you mean 'roberta-base'?)"),
        ("tiny_vti", "(did you mean 'tiny_vit'?)"),
    ],
)
def test_the_nearest_name_is_named(name: str, hint: str) -> None:
    rule = models.check_model_name(name)
    assert rule is not None
    assert rule.endswith(hint)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_current_folder(name: str) -> None:
    assert str(models.check_model_name(name)).startswith("one of [")


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        ("roberta-base", "FacebookAI/roberta-base"),
        ("FacebookAI/roberta-base", "roberta-base"),
        ("roberta-base", "roberta-base"),
    ],
)
def test_the_cache_is_searched_under_both_names(
    asked: str, cached: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert weights.find_local_folder(asked) is None
    folder = tmp_path / f"models--{cached.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    save(folder / "snapshots" / ("0" * 40), *TEXTS["roberta"], head="ForMaskedLM")
    assert weights.find_local_folder(asked) == folder / "snapshots" / ("0" * 40)
    assert models.check_model_weights(asked) is None
    assert models.build_model(asked, {"y": 2}).get_last_layer().out_features == 2


def test_a_folder_of_that_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "roberta-base").mkdir()  # of a tokenizer
    assert models.check_model_name("roberta-base") is None
    save(tmp_path / "roberta-base", *TEXTS["roberta"])
    rule = models.check_model_name("roberta-base")
    assert rule is not None
    assert str(tmp_path / "roberta-base") in rule
    assert models.check_model_name(str(tmp_path / "roberta-base")) is None


@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is installed")
def test_timm_is_an_extra() -> None:
    rule = models.check_model_name("timm/resnet10t")
    assert rule is not None
    assert rule.startswith("the package timm for this model: pip install")
    assert rule.endswith("requirements-timm.txt")


@pytest.mark.skipif(find_spec("timm") is None, reason=NO_TIMM)
@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "convnext_atto"])
def test_timm_by_name(name: str) -> None:
    assert models.check_model_name(f"timm/{name}") is None
    assert models.check_model_weights(f"timm/{name}", from_scratch=True) is None
    model = models.build_model(f"timm/{name}", {"y": 2}, from_scratch=True)
    assert isinstance(model, ImageBackbone)
    assert model.image is not None
    images = torch.rand(2, 3, model.image.size, model.image.size)
    assert model(images).outputs.shape == (2, 2)
    with pytest.raises(UserError, match="used by its pooled features; the method needs a model"):
        models.build_model(
            f"timm/{name}", {"y": 2}, frozenset({"reconstruction"}), from_scratch=True
        )


@pytest.mark.skipif(find_spec("timm") is None, reason=NO_TIMM)
def test_timm_trains_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("timm/resnet19", "resnet10t"):
        rule = models.check_model_name(name)
        assert rule is not None
        assert "did you mean" in rule
    write_data(tmp_path / "folder", "filename")
    scratch = ("--set", "from_scratch=true")
    assert run("erm_l1", "timm/resnet10t", tmp_path, *scratch) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert run("erm_mt", "timm/resnet10t", tmp_path, *scratch) == 2
    assert "hidden states per patch" in capsys.readouterr().err
