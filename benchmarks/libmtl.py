"""A weighted step of LibMTL, for :mod:`benchmarks.weighting_step`."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.step_networks import Problem
from core.weighting import solve_alpha_fair


def make_libmtl_step(problem: Problem, alpha: float, by_features: bool) -> Callable[[], str]:
    """Return a step with LibMTL's own gradients and update, and our alpha-fair weights.

    Args:
        problem: The network and its batch.
        alpha: The fairness.
        by_features: Whether the weights are chosen by gradients of the features.
    """
    base = _import_base()

    class Fair(base):  # type: ignore[misc,valid-type]
        task_num, task_name = problem.tasks, [str(i) for i in range(problem.tasks)]
        device, rep_grad = problem.inputs.device, by_features

        def get_share_params(self) -> Any:
            return problem.trunk.parameters()

        def zero_grad_share_params(self) -> None:
            problem.trunk.zero_grad(set_to_none=False)

        def backward(self, losses: list[Tensor]) -> None:
            grads = self._get_grads(losses)
            rows = grads[1] if by_features else grads
            weights = solve_alpha_fair(rows @ rows.T, alpha).weights
            if by_features:
                self._backward_new_grads(weights, per_grads=grads[0])
            else:
                self._backward_new_grads(weights, grads=grads)

    weighting = Fair()

    def take_step() -> str:
        weighting.backward(
            _compute_losses(problem, weighting) if by_features else problem.forward()[1]
        )
        return ""

    return take_step


def _compute_losses(problem: Problem, weighting: Any) -> list[Tensor]:
    """Return losses of which each has its own copy of the features."""
    weighting.rep = problem.trunk(problem.inputs)
    weighting.rep_tasks = {
        task: weighting.rep.detach().clone().requires_grad_() for task in weighting.task_name
    }
    copies = weighting.rep_tasks.values()
    return [
        problem.compute_loss(head(features), target)
        for head, features, target in zip(problem.heads, copies, problem.targets, strict=True)
    ]


def _import_base() -> type[torch.nn.Module]:
    """Return the base class of LibMTL's weightings without importing all of LibMTL."""
    package = importlib.util.find_spec("LibMTL")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "weighting" / "abstract_weighting.py"
    spec = importlib.util.spec_from_file_location("libmtl_weighting", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[torch.nn.Module] = module.AbsWeighting
    return found
