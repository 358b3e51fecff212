"""Batches that are split, and batches that must not be."""

from typing import Any

import pytest
import torch

from common.errors import UserError, ValidationErrors
from core.__main__ import main
from core.recipe.method_files import list_methods, load_method
from core.training.epoch_row import EpochRow
from core.training.profiling import measure_usage
from core.training.run import Run
from core.training.steps import BatchTooLarge
from core.weighting.errors import WeightingError
from tests.core.training.test_run import rows, start
from tests.core.training.test_single_examples import Normalized


def close(one: list[EpochRow], other: list[EpochRow]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.losses == pytest.approx(b.losses, rel=2e-3)


@pytest.mark.medium
@pytest.mark.parametrize("method", ["erm", "erm_l1", "rwg"])
def test_a_split_batch_is_the_same_step(method: str) -> None:
    whole = list(rows(start(method, "colored_digits", epochs=2)))
    split = list(rows(start(method, "colored_digits", epochs=2, microbatch=7)))
    close(whole, split)
    assert all(row.microbatch == 7 for row in split)
    assert whole[0].microbatch is None


@pytest.mark.parametrize("method", ["dro", "fairgrad_groups"])
def test_what_looks_at_the_whole_batch_is_not_split(method: str) -> None:
    with pytest.raises(
        ValidationErrors, match=r"microbatch: received 7, expected 0: .*whole batch"
    ):
        start(method, "colored_digits", epochs=1, microbatch=7)
    start(method, "colored_digits", epochs=1, microbatch=32, batch_size=32).train_epoch()


def test_batch_normalization_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.models._find_models", lambda: {"digits_cnn": Normalized})
    for ask in (Run.train_epoch, measure_usage):  # not: it does not fit a whole GPU
        run = start("erm", "colored_digits", epochs=1, microbatch=7)
        with pytest.raises(UserError, match=r"microbatch: received 7, expected 0: .*normaliz"):
            ask(run)


def limited(run: Run, most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the model run out of memory above ``most`` examples; return the sizes it was given."""
    forward, sizes = run.model.forward, []

    def guarded(inputs: torch.Tensor) -> Any:
        sizes.append(len(inputs))
        if run.model.training and len(inputs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(inputs)

    monkeypatch.setattr(run.model, "forward", guarded)
    return sizes


def test_a_batch_that_does_not_fit_is_split_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(rows(start("erm", "colored_digits", epochs=1)))
    run = start("erm", "colored_digits", epochs=1)
    sizes = limited(run, 10, monkeypatch)
    row = run.train_epoch()
    assert row.microbatch == 8  # 32, 16, 8
    assert max(size for size in sizes[3:] if size <= 8) == 8
    close(whole, [row])
    assert run.make_state().microbatch == 8


def test_a_batch_that_must_stay_whole_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = start("dro", "colored_digits", epochs=1)
    limited(run, 10, monkeypatch)
    with pytest.raises(BatchTooLarge, match=r"32 examples.*smaller batch_size"):
        run.train_epoch()


@pytest.mark.deviation("clipping")
def test_published_clipping_is_of_the_shared_parameters() -> None:
    run = start("fairgrad", "two_digits", epochs=1, lr=1e-9, batch_size=4000)
    assert run.context.config.clip == "shared"
    run.train_epoch()
    heads = {id(p) for module in run.model.get_task_heads().values() for p in module.parameters()}
    shared = [p for p in run.model.parameters() if id(p) not in heads and p.grad is not None]
    norm = torch.stack([p.grad.norm() for p in shared if p.grad is not None]).norm().item()
    assert norm == pytest.approx(1.0, rel=1e-3)
    assert start("nashmtl", "two_digits").context.config.clip_norm == 0


def measure_trunk(run: Run) -> float:
    """Return the length of the last step's gradient of the shared parameters."""
    heads = {id(p) for module in run.model.get_task_heads().values() for p in module.parameters()}
    shared = [p.grad for p in run.model.parameters() if id(p) not in heads and p.grad is not None]
    return float(torch.nn.utils.get_total_norm(shared))


# The published step is K times the weighted sum, then clipped at 1; these of the first step of all
# examples, whose lengths are on both sides of 1/K and of 1.
@pytest.mark.medium
@pytest.mark.deviation("step-length")
@pytest.mark.parametrize("method", ["fairgrad", "cagrad", "log_cagrad", "alpha_fair_cagrad"])
@pytest.mark.parametrize("shrink", [1.0, 0.5, 1e-2])
def test_a_clipped_step_has_the_published_length(method: str, shrink: float) -> None:
    whole: dict[str, Any] = {"epochs": 1, "lr": 1e-9, "batch_size": 4000}
    plain = start(method, "two_digits", **whole, clip_norm=0.0, times_losses=False)
    plain.train_epoch()
    length, tasks = measure_trunk(plain), len(plain.context.losses.names)
    limit = tasks * length * shrink  # so that the factor decides whether the step is clipped
    clipped = start(method, "two_digits", **whole, clip_norm=limit)
    clipped.train_epoch()
    assert measure_trunk(clipped) == pytest.approx(min(limit, tasks * length), rel=1e-4)
    longer = start(method, "two_digits", **whole, clip_norm=2 * tasks * length)
    longer.train_epoch()
    assert measure_trunk(longer) == pytest.approx(tasks * length, rel=1e-4)


@pytest.mark.parametrize("method", ["mgda", "alpha_fair_mgda"])
def test_weights_of_published_mgda_sum_to_the_number_of_tasks(method: str) -> None:
    """Trunk and heads get K times the weighted gradients, and nothing is clipped."""
    lengths = []
    for times in (False, True):
        run = start(method, "two_digits", epochs=1, lr=1e-9, batch_size=4000, times_losses=times)
        run.train_epoch()
        grads = [p.grad for p in run.model.parameters() if p.grad is not None]
        lengths.append((measure_trunk(run), float(torch.nn.utils.get_total_norm(grads))))
    tasks = len(run.context.losses.names)
    assert lengths[1] == pytest.approx([tasks * length for length in lengths[0]], rel=1e-4)
    assert start(method, "two_digits").context.config.times_losses


def test_only_published_methods_multiply_their_step() -> None:
    found = {name for name in list_methods() if "times_losses" in load_method(name).settings}
    assert found == {
        "fairgrad", "cagrad", "log_cagrad", "alpha_fair_cagrad", "mgda", "alpha_fair_mgda",
    }  # fmt: skip


@pytest.mark.parametrize("strategy", ["exact", "matrix_free", "auto", "representation"])
def test_every_gradient_strategy_trains(strategy: str) -> None:
    run = start("fairgrad", "two_digits", epochs=1, gradients=strategy, batch_size=256)
    exact = start("fairgrad", "two_digits", epochs=1, batch_size=256)
    found, reference = run.train_epoch(), exact.train_epoch()
    assert run.context.config.gradients == strategy
    for name, value in found.losses.items():
        assert value == pytest.approx(reference.losses[name], rel=0.2)


def test_strategies_that_do_not_fit_are_refused_before_anything_starts() -> None:
    with pytest.raises(Exception, match="matrix_free supports only fairgrad"):
        start("cagrad", "two_digits", gradients="matrix_free")
    with pytest.raises(Exception, match="requires a Gram-matrix weighting"):
        start("ls", "two_digits", gradients="representation")


@pytest.mark.deviation("weighted-heads")
def test_heads_are_weighted_only_where_asked() -> None:
    norms = []
    for weighted in (False, True):
        run = start("fairgrad", "two_digits", epochs=1, batch_size=4000, weighted_heads=weighted)
        run.train_epoch()
        head = run.model.get_task_heads()["sum"]
        norms.append(sum(float(p.grad.norm()) for p in head.parameters() if p.grad is not None))
    assert norms[0] != pytest.approx(norms[1], rel=1e-3)


@pytest.mark.parametrize(
    ("dataset", "method", "model"),
    [
        ("colored_digits", "erm", "tiny_bert"),  # of texts
        ("colored_digits", "erm", "celeba_cnn"),  # of other channels
        ("colored_digits", "erm", "tiny_vit"),  # of other sizes
        ("colored_digits", "erm", "mpnn_small"),  # of molecules
        ("imbalanced_tasks", "ls", "celeba_cnn_small"),  # of images, for vectors
        ("two_digits", "ls", "tasks_mlp"),  # of vectors, for images
        ("colored_digits", "erm", "tasks_mlp"),  # of tasks
        ("two_digits", "ls", "digits_cnn"),  # of classification
    ],
)
def test_a_model_that_does_not_fit_the_data_is_named(dataset: str, method: str, model: str) -> None:
    with pytest.raises(UserError, match=rf"'{model}'|this model is a classifier") as found:
        start(method, dataset, epochs=1, model=model).train_epoch()
    assert "\n" not in str(found.value)


def test_an_error_of_our_own_is_not_blamed_on_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    run = start("erm", "colored_digits", epochs=1)

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(run.stage_state.optimizer, "step", broken)
    with pytest.raises(RuntimeError, match="broken"):
        run.train_epoch()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(ValueError, ValueError), (TypeError, TypeError), (WeightingError, UserError)],
)
def test_only_arguments_that_do_not_fit_are_the_users_mistake(
    raised: type[Exception], expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start("fairgrad_groups", "colored_digits", epochs=1)

    def broken(*_: Any) -> None:
        raise raised("of the solver")

    monkeypatch.setattr(run.stage_state.weighting, "solve_weights", broken)
    with pytest.raises(expected, match="of the solver") as found:
        run.train_epoch()
    assert type(found.value) is expected


def test_the_command_tells_a_batch_that_must_not_be_split(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--method", "dro", "--dataset", "colored_digits", "--epochs", "1"]
    assert main([*given, "--set", "microbatch=7"]) == 2
    assert "microbatch: received 7, expected 0" in capsys.readouterr().err


def test_warm_up_is_refused_where_it_would_do_nothing() -> None:
    for schedule in ("step", "plateau"):
        with pytest.raises(ValidationErrors, match=f"warmup: received 0.1, expected 0.*{schedule}"):
            start("erm", "colored_digits", schedule=schedule, warmup=0.1)


def test_plateau_lowers_the_rate_of_an_accuracy_that_stands_still() -> None:
    # Relative to a negated accuracy an equal one would count as better, for ever.
    run = start("erm", "colored_digits", schedule="plateau", lr=0.1)
    for _ in range(8):
        run.stage_state.step_epoch_schedule({"worst_group_accuracy": 0.5}, "worst_group_accuracy")
    assert run.stage_state.optimizer.param_groups[0]["lr"] == pytest.approx(0.07)
    tasks = start("ls", "two_digits", schedule="plateau", lr=0.1)
    for value in (9, 8, 7, 6, 5, 4, 3, 2):
        tasks.stage_state.step_epoch_schedule({"delta_m": float(value)}, "delta_m")
    assert tasks.stage_state.optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_mistakes_of_the_weighting_are_user_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise WeightingError("strategy='matrix_free' needs features")

    run = start("fairgrad", "two_digits", epochs=1, batch_size=256)
    monkeypatch.setattr("core.training.steps.backward", refuse)
    with pytest.raises(UserError, match="needs features"):
        run.train_epoch()


@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.parametrize("gradients", ["representation", "matrix_free"])
def test_compilation_that_hides_the_features_is_refused(gradients: str) -> None:
    with pytest.raises(ValidationErrors, match=f"gradients={gradients} .*compile=false"):
        start("fairgrad", "two_digits", compile=True, gradients=gradients)
    start(
        "fairgrad_groups", "colored_digits", compile=True, model="digits_vit", gradients=gradients
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("ls", {}),
        ("famo", {}),
        ("fairgrad", {}),
        ("fairgrad", {"gradients": "auto", "weighted_heads": True}),
        ("pcgrad", {}),
        ("stl", {}),
    ],
)
def test_compiled_models_train_the_same(method: str, config: dict[str, Any]) -> None:
    """By the default compiler, which reuses the memory of the graph unless it is told not to."""
    plain, compiled = (
        start(method, "imbalanced_tasks", epochs=1, compile=compiled, **config).train_epoch()
        for compiled in (False, True)
    )
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-3)
