"""Settings without effect are refused in one line that says where they apply."""

from pathlib import Path

import pytest

import datasets
from core.__main__ import main as train
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import resolve_method
from tests.core.recipe.test_methods import changed, problems_of
from tuning.cli.main import main

# A command's settings, and words of the message.
UNUSED = [
    ("ls two_digits", "times_losses=true", "weighting 'ls' weights losses"),
    ("famo two_digits", "times_losses=true", "weighting 'famo' weights losses"),
    ("stl two_digits", "weighted_heads=true", "per-task gradients, such as fairgrad"),
    ("erm colored_digits", "times_losses=true", "weighting 'fixed' weights losses"),
    ("erm colored_digits", "gradients=auto", "per-task gradients, such as fairgrad"),
    ("dro colored_digits", "weighted_heads=true", "weighting 'dro' weights losses"),
    ("fairgrad_groups colored_digits", "weighted_heads=true", "share one head"),
    ("fairgrad_groups colored_digits", "clip=shared", "share one head"),
    ("ls two_digits", "clip=shared", "clip_norm is 0"),
    ("erm colored_digits", "clip=shared clip_norm=1", "'digits_cnn' has no task heads"),
    ("stl two_digits", "clip=shared clip_norm=1", "each task has a model of its own"),
    ("erm colored_digits", "microbatch=64 batch_size=64", "does not split batches of 64"),
    ("fairgrad two_digits", "momentum=0.5", "applies to optimizer sgd; this one is adam"),
    ("erm colored_digits", "momentum=0.5 optimizer=adamw", "applies to optimizer sgd"),
    ("ls two_digits", "decay_target=vectors", "weight_decay is 0"),
    ("erm colored_digits", "pad_to=220", "it applies to texts"),
    ("fairgrad qm9", "pad_to=220", "it applies to texts"),
    ("erm colored_digits", "from_scratch=true", "it applies to a pretrained model"),
    ("erm waterbirds", "from_scratch=true model=tiny_vit", "it applies to a pretrained model"),
    ("erm colored_digits", "epochs_cover=run", "it applies to several, such as jtt's"),
    ("ls celeba40", "augmentation=random_resized_crop", "it applies to photographs"),
    ("erm colored_digits", "augmentation=random_resized_crop", "it applies to photographs"),
]


@pytest.mark.parametrize(("where", "settings", "words"), UNUSED)
def test_a_setting_without_effect_is_refused(
    where: str, settings: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    method, dataset = where.split()
    given = [text for setting in settings.split() for text in ("--set", setting)]
    command = ["--method", method, "--dataset", dataset, "--data-root", str(tmp_path), *given]
    plan = ["--plan", "--results", str(tmp_path / "results")]
    for run, arguments in ((train, command), (main, [*command, *plan])):
        assert run(arguments) == 2
        name = settings.partition("=")[0]
        mistake = f"{method} on {dataset}: {name}: received"
        # Other lines say which data are missing.
        (line,) = [text for text in capsys.readouterr().err.splitlines() if mistake in text]
        assert words in line


USED = [
    ("fairgrad two_digits", "times_losses=false weighted_heads=true"),
    ("pcgrad two_digits", "clip_norm=0"),  # leaves the method's own clip=shared without effect
    ("pcgrad two_digits", "clip=all"),
    ("ls two_digits", "optimizer=sgd momentum=0.5"),
    ("ls two_digits", "times_losses=false clip=all pad_to=0"),
    ("jtt colored_digits", "epochs_cover=run epochs=20"),
    ("erm colored_digits", "microbatch=16 batch_size=choice:8,32"),
    ("ls two_digits", "clip=shared clip_norm=1"),
    ("erm colored_digits", "optimizer=choice:sgd,adamw momentum=0.5"),
    ("erm colored_digits", "weight_decay=choice:0.0,0.1 decay_target=vectors"),
]


@pytest.mark.parametrize(("where", "settings"), USED)
def test_a_setting_that_some_trial_uses_is_accepted(
    where: str, settings: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    method, dataset = where.split()
    given = [text for setting in settings.split() for text in ("--set", setting)]
    results = ["--plan", "--results", str(tmp_path)]
    assert main(["--method", method, "--dataset", dataset, *given, *results]) == 0
    assert "nothing was started" in capsys.readouterr().out


def test_no_published_configuration_has_a_setting_without_effect() -> None:
    found: list[str] = []
    for name in list_methods():
        method = load_method(name)
        for dataset in {*method.published, *method.grid}:
            resolved = resolve_method(method, datasets.load_benchmark(dataset))
            grid = {key: values[-1] for key, values in resolved.grid.items()}
            found += resolved.find_unused_settings(resolved.published or {}).values()
            found += resolved.find_unused_settings(grid).values()
    assert not found


def test_a_method_file_cannot_set_what_its_weighting_cannot_use(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, changed("settings", {"times_losses": True}))
    assert "settings.times_losses: has no effect: weighting 'fixed' weights losses" in problem
