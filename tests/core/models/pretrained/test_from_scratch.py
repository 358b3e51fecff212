"""``from_scratch``: a model's configuration without its weights, seeded per trial."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ViTConfig

from common.errors import UserError, ValidationErrors
from core import models
from tests.core.models.pretrained.test_loading import SMALL, bert_folder, write_vit_folder
from tests.core.training.test_run import start
from tuning.cli.main import main

__all__ = ["bert_folder"]  # a fixture


def build(folder: Path, seed: int, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return models.build_model(str(folder), {"y": 2}, **options).state_dict()


def trunk_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in state.items()
        if name.startswith("trunk.") and value.is_floating_point() and value.ndim > 1
    }


def test_a_bert_from_scratch_is_drawn_by_the_seed(bert_folder: Path) -> None:
    parts = frozenset({"reconstruction"})
    own = trunk_of(build(bert_folder, 0, parts=parts))
    first, again, other = (
        trunk_of(build(bert_folder, seed, parts=parts, from_scratch=True)) for seed in (5, 5, 6)
    )
    assert own.keys() == first.keys()
    for name, value in first.items():
        assert torch.equal(value, again[name])
        assert not torch.equal(value, other[name])
        assert not torch.equal(value, own[name])


def test_the_configuration_is_enough(bert_folder: Path, tmp_path: Path) -> None:
    vit = write_vit_folder(tmp_path / "vit", 32)
    for folder in (bert_folder, vit):
        for path in folder.glob("*.safetensors"):
            path.unlink()
        with pytest.raises(UserError, match=r"model\.safetensors"):
            build(folder, 0)
        assert trunk_of(build(folder, 0, from_scratch=True))
        assert models.check_model_weights(str(folder), from_scratch=True) is None
        assert models.check_model_weights(str(folder)) is not None


def test_a_run_takes_the_configuration_only_where_asked(tmp_path: Path) -> None:
    folder = write_vit_folder(tmp_path / "vit", 32)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ValidationErrors, match=r"model: received .* expected a folder with model"):
        start("erm", "colored_digits", model=str(folder))
    states = [
        trunk_of(start("erm", "colored_digits", seed, model=str(folder), from_scratch=True)
                 .model.state_dict())
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_a_resnet_from_scratch_needs_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert models.check_model_weights("resnet50", from_scratch=True) is None
    assert models.build_model("resnet50", {"y": 2}, from_scratch=True).get_last_layer()


def test_a_study_plans_without_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ViTConfig(image_size=8, patch_size=2, num_channels=2, **SMALL).save_pretrained(tmp_path)
    folder = tmp_path
    given = ["--method", "erm", "--dataset", "colored_digits", "--set", f"model={folder}", "--plan"]
    results = ["--results", str(tmp_path / "results")]
    assert main([*given, *results]) == 2
    assert "model.safetensors" in capsys.readouterr().err
    assert main([*given, *results, "--set", "from_scratch=true"]) == 0, capsys.readouterr().err
