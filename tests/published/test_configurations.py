"""``python -m core.training.published``: the published configurations, field by field.

The expected values are those of the authors' trainers, run scripts and values files: System 1 at
ce40c60, System 2 at 2b8cba1, SDMGrad at 8333f9e.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import datasets
from core.models import find_image_size
from core.models.pretrained.loading import choose_image_size
from core.recipe.method_files import FOLDER, list_methods, load_method
from core.recipe.resolved_method import resolve_method
from core.training.published.__main__ import describe_published, main

# What is drawn of images, and of each second task: images, texts.
CROPS = {
    "name": "random_resized_crop", "crop_area": [0.05, 1.0], "aspect_ratio": [3 / 4, 4 / 3],
    "flip": 0.0,
}  # fmt: skip
VIEWS = {"crop_area": [0.67, 1.0], "aspect_ratio": [3 / 4, 4 / 3], "flip": 0.5}
SECOND_TASKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "reconstruction": (
        {**VIEWS, "masked_blocks": 0.6, "block_patches": 2},  # 32 pixels: 2 patches of 16
        {"predicted_tokens": 0.15, "become_the_mask_token": 0.8, "become_random_tokens": 0.1},
    ),
    "contrastive_or_causal": (
        {
            **VIEWS, "color_jitter": [0.8, 0.8, 0.8, 0.2], "jittered": 0.8, "gray": 0.2,
            "blur_width": 39, "blur_sigma": [0.1, 2.0], "temperature": 1.0,
        },
        {"causal": True},
    ),
}  # fmt: skip
NAMES = {"_mt2": "contrastive_or_causal", "_mt": "reconstruction"}  # by parts of methods' names

System1 = dict[str, tuple[int, dict[str, float]]]

# Batch size and other values of each method.
TEXTS: System1 = {
    "erm": (8, {}),
    "jtt": (8, {"T": 5, "up": 6}),
    "dro": (32, {"eta": 0.1}),
    "erm_l1": (32, {"l1": 0.3679}),
    "erm_mt": (32, {"reconstruction": 0.3679}),
    "erm_mt_l1": (32, {"reconstruction": 1.0, "l1": 0.3679}),
    "erm_mt2_l1": (32, {"auxiliary": 0.3679, "l1": 0.3679}),
}
IMAGES: System1 = {
    "erm": (4, {}),
    "jtt": (8, {"T": 10, "up": 20}),
    "dro": (16, {"eta": 0.1}),
    "erm_l1": (4, {"l1": 0.3679}),
    "erm_mt": (4, {"reconstruction": 1.0}),
    "erm_mt_l1": (16, {"reconstruction": 0.3679, "l1": 0.3679}),
    "erm_mt2_l1": (16, {"auxiliary": 2.7183, "l1": 0.3679}),
}
# The weighting of each method of System 2, whether its step is multiplied, clipped, and its heads
# weighted.
TASKS: dict[str, tuple[dict[str, Any], bool, bool, bool]] = {
    "stl": ({"ls": {}}, False, False, False),
    "ls": ({"ls": {}}, False, False, False),
    "si": ({"si": {}}, False, False, False),
    "rlw": ({"rlw": {}}, False, False, False),
    "dwa": ({"dwa": {"temperature": 2.0, "window": 25}}, False, False, False),
    "uw": ({"uw": {"lr": 0.025}}, False, False, False),
    "mgda": ({"mgda": {}}, True, False, True),
    "log_mgda": ({"mgda": {"losses": "log"}}, False, False, True),
    "pcgrad": ({"pcgrad": {}}, False, True, False),
    "graddrop": ({"graddrop": {}}, False, True, False),
    "cagrad": ({"cagrad": {"c": 0.4}}, True, True, False),
    "log_cagrad": ({"cagrad": {"c": 0.4, "losses": "log"}}, True, True, False),
    "imtl": ({"imtl": {}}, False, False, True),
    "log_imtl": ({"imtl": {"losses": "log"}}, False, False, True),
    "nashmtl": ({"nashmtl": {}}, False, False, True),
    "famo": ({"famo": {"gamma": 0.001}}, False, False, False),
    "fairgrad": ({"fairgrad": {"alpha": 2.0}}, True, True, False),
    "sdmgrad": ({"sdmgrad": {"strength": 0.3, "iterations": 20}}, True, True, False),
}
# Options of methods, at the values of the published code.
OPTIONS: dict[str, dict[str, Any]] = {
    "ls": {"task_weights": ""},
    "si": {"task_weights": ""},
    "dwa": {"window": 25},
    "mgda": {"normalization": "none"},
    "log_mgda": {"normalization": "none"},
    "nashmtl": {"update_interval": 1},
    "famo": {"weights_lr": 0.025},
    "sdmgrad": {"iterations": 20},
    **{name: {"mt_batches": 1} for name in ("erm_mt", "erm_mt_l1", "erm_mt2_l1")},
}
OPTION = {"option": "--protocol published"}
LAST10 = {"rule": "published_last10", "training_split": "train_and_validation", **OPTION}
BY_F1 = {"rule": "validation_mean_f1", "training_split": "train", **OPTION}
# Tasks, model, epochs, batch size, rate, augmentation, schedule, the authors' selection.
BENCHMARKS: dict[str, tuple[int, str, int, int, float, str, str, dict[str, str]]] = {
    "nyuv2": (3, "segnet_mtan", 200, 2, 1e-4, "scale_crop_flip", "step", LAST10),
    "cityscapes": (2, "segnet_mtan", 200, 8, 1e-4, "scale_crop_flip", "step", LAST10),
    "celeba40": (
        40,
        "celeba_cnn",
        15,
        256,
        3e-4,
        "none",
        "constant",
        BY_F1,
    ),
    "qm9": (11, "mpnn", 300, 120, 1e-3, "none", "plateau", {}),
}


def print_published(dataset: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run the command; return what it prints."""
    assert main(["--dataset", dataset]) == 0
    found: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return found


def read_values(recipe: Mapping[str, Any]) -> dict[str, float]:
    """Return the weights and other values of a recipe of System 1."""
    (weighting,) = recipe["weighting"].values()
    values = {**weighting.get("weights", {})}
    if "step_size" in weighting:
        values["eta"] = weighting["step_size"]
    first = recipe["stages"][0].get("identify_errors")
    return values | ({"T": first["epochs"], "up": first["upweight"]} if first else {})


def compute_rate(step: int, warmup: float, total: int, name: str) -> float:
    """Return the share of the full rate at a step, as the schedules' definitions say."""
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / (total - warmup)
    return 1 - progress if name == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


@pytest.mark.parametrize(
    ("dataset", "methods", "examples", "epochs"),
    [("civilcomments_small", TEXTS, 13770, 50), ("waterbirds", IMAGES, 4795, 200)],
)
def test_system_1(
    dataset: str,
    methods: System1,
    examples: int,
    epochs: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = print_published(dataset, capsys)
    assert set(found) == set(methods)
    is_text = dataset == "civilcomments_small"
    for name, (batch_size, values) in methods.items():
        entry = found[name]
        rate = 1e-5 if is_text else 1e-3
        model = "bert-base-uncased" if is_text else "google/vit-base-patch16-224-in21k"
        assert (entry["lr"], entry["batch_size"], entry["epochs"]) == (rate, batch_size, epochs)
        assert entry["model"] == model
        assert read_values(entry["recipe"]) == values
        assert entry.get("options", {}) == OPTIONS.get(name, {})
        # One pass of JTT counts errors: an epoch of theirs, none of ours.
        stages = [values["T"], epochs - values["T"] - 1] if name == "jtt" else [epochs]
        assert [stage["epochs"] for stage in entry["stages"]] == stages
        assert all(stage["starts"] == "new weights" for stage in entry["stages"])
        assert entry["optimizer"] == (
            {
                "name": "adamw", "betas": [0.9, 0.999], "epsilon": 1e-8, "decay_of_weights": 0.0,
                "decay_of_biases_and_norms": 0.01,
            }
            if is_text
            else {
                "name": "sgd", "momentum": 0.9, "decay_of_weights": 0.0,
                "decay_of_biases_and_norms": 0.0,
            }
        )  # fmt: skip
        steps = math.ceil(examples / batch_size) * epochs
        warmup = 500 if not is_text else round(0.06 * steps) if "_mt" in name else 0
        # JTT's second stage starts the same schedule anew, sized before errors are repeated.
        for schedule in (stage["schedule"] for stage in entry["stages"]):
            assert schedule["name"] == ("linear" if is_text else "cosine_with_restarts")
            assert (schedule["steps"], schedule["warmup_steps"]) == (steps, warmup)
            assert len(schedule["rates"]) == 3
            assert min(schedule["rates"]) == warmup // 2
            for step, found_rate in schedule["rates"].items():
                expected = rate * compute_rate(step, warmup, steps, schedule["name"])
                assert found_rate == float(f"{expected:.6g}")
        norm = {"norm": 1.0, "parameters": "all"} if is_text else {"norm": 0.0}
        assert entry["clipping"] == {**norm, "factor": 1, "weighted_heads": False}
        assert entry["pad_to"] == (220 if is_text and name.endswith("l1") else 0)
        second = next((part for part in SECOND_TASKS if part in entry["inputs"]), None)
        assert entry["inputs"] == {
            **({"text_length": 220} if is_text else {"image_size": 384}),
            "augmentation": {"name": "none"} if is_text else CROPS,
            **({second: SECOND_TASKS[second][is_text]} if second else {}),
        }
        assert second == NAMES.get(next((n for n in NAMES if n in name), ""))
        assert entry["selection"] == "validation_worst_group_accuracy"
        assert entry["patience"] == 9
        auxiliary = [part for part in entry["recipe"]["objectives"] if "batch_size" in str(part)]
        for part in auxiliary:
            (parameters,) = part.values()
            assert parameters["batch_size"] in (0, batch_size)


@pytest.mark.parametrize("dataset", BENCHMARKS)
def test_system_2(dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    tasks, model, epochs, batch_size, rate, augmentation, schedule, rule = BENCHMARKS[dataset]
    found = print_published(dataset, capsys)
    without = set() if dataset in ("nyuv2", "cityscapes") else {"sdmgrad"}
    assert set(found) == set(TASKS) - without
    for name, entry in found.items():
        weighting, is_multiplied, is_clipped, weights_heads = TASKS[name]
        if name == "famo" and dataset == "cityscapes":
            weighting = {"famo": {"gamma": 0.01}}
        assert entry["recipe"]["weighting"] == weighting, name
        assert entry["recipe"]["objectives"] == [{"task_losses": {}}]
        assert entry.get("options", {}) == OPTIONS.get(name, {})
        assert not entry["unscaled_targets"]
        assert (entry["model"], entry["epochs"], entry["batch_size"]) == (model, epochs, batch_size)
        assert entry["lr"] == rate
        draws = {"scales": [1.0, 1.2, 1.5], "flip": 0.5} if augmentation != "none" else {}
        assert entry["inputs"] == {
            **({"image_size": 64} if dataset == "celeba40" else {}),
            "augmentation": {"name": augmentation, **draws},
        }
        (stage,) = entry["stages"]
        assert (stage["epochs"], stage["starts"]) == (epochs, "new weights")
        assert entry["optimizer"] == {
            "name": "adam", "betas": [0.9, 0.999], "epsilon": 1e-8, "decay_of_weights": 0.0,
            "decay_of_biases_and_norms": 0.0,
            **({"rate_of_weighting": 0.025} if name == "uw" else {}),
        }  # fmt: skip
        found_schedule = stage["schedule"]
        assert found_schedule["name"] == schedule
        if schedule == "step":
            assert (found_schedule["every_epochs"], found_schedule["factor"]) == (100, 0.5)
            assert found_schedule["rates"] == {0: 1e-4, 50: 1e-4, 100: 5e-5}
        elif schedule == "plateau":
            assert found_schedule == {
                "name": "plateau", "factor": 0.7, "patience": 5, "min_rate": 1e-5,
                "follows": "validation delta_m, the minimum",
            }  # fmt: skip
        else:
            assert set(found_schedule["rates"].values()) == {rate}
            assert found_schedule["warmup_steps"] == 0
        norm = {"norm": 1.0, "parameters": "shared"} if is_clipped else {"norm": 0.0}
        factor = tasks if is_multiplied else 1
        assert entry["clipping"] == {**norm, "factor": factor, "weighted_heads": weights_heads}
        assert entry["selection"] == "validation_delta_m"
        assert entry.get("published_selection", {}) == rule
        assert entry["patience"] == 0
        assert entry["pad_to"] == 0


def test_every_published_method_is_compared() -> None:
    compared = {*TEXTS, *TASKS}
    data = {"civilcomments_small", "waterbirds", *BENCHMARKS}
    assert compared == {name for name in list_methods() if data & set(load_method(name).published)}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--dataset", "nyuv3"], "unknown data set 'nyuv3'"),
        (["--dataset", "folder"], "no method has published hyperparameters"),
        (["--dataset", "qm9", "--method", "erm"], "needs classification"),
        (["--dataset", "qm9", "--method", "sdmgrad"], "sdmgrad has no published"),
        (["--dataset", "qm9", "--method", "lss"], "unknown method 'lss'"),
    ],
)
def test_mistakes_are_one_line(
    given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(given) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_one_method_by_its_published_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dataset", "qm9", "--method", "scaleinvls"]) == 0
    assert list(yaml.safe_load(capsys.readouterr().out)) == ["si"]


@pytest.mark.parametrize(
    ("weighting", "covered"),
    [
        ({"fairgrad": {"alpha": 2.0}}, 3),
        ({"fairgrad": {"alpha": 2.0, "over": ["depth", "normals"]}}, 2),
        ({"fairgrad": {"alpha": 2.0}, "fixed": {"segmentation": 0.5, "normals": 0.1}}, 1),
    ],
)
def test_the_factor_counts_the_losses_that_the_weighting_covers(
    weighting: dict[str, Any], covered: int, tmp_path: Path
) -> None:
    content = yaml.safe_load((FOLDER / "fairgrad.yaml").read_text(encoding="utf-8"))
    content = {key: content[key] for key in ("description", "paper", "needs", "settings")}
    content["recipe"] = {
        "sampler": "uniform",
        "objectives": ["task_losses"],
        "weighting": weighting,
        "stages": ["train"],
    }
    content["published"] = {"nyuv2": {"lr": 1e-4}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    method = load_method("mine", tmp_path)
    entry = describe_published(resolve_method(method, datasets.load_benchmark("nyuv2")))
    assert entry["clipping"] == {
        "norm": 1.0, "parameters": "shared", "factor": covered, "weighted_heads": False,
    }  # fmt: skip


def test_the_public_vision_transformer_is_built_for_the_printed_size() -> None:
    assert find_image_size("google/vit-base-patch16-224-in21k") == choose_image_size(224) == 384
