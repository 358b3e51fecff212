"""Part j: several seeds of one configuration in one process, stacked by torch.func."""

import copy
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from benchmarks.gpu.report import Report
from core.models.digits_cnn import DigitsCNN

SEEDS = (1, 4, 16, 64)
RATE = 1e-2  # learning rate of plain gradient descent


class StackedTrials:
    """Networks of several seeds that take their steps in the same kernels.

    Args:
        models: The networks, alike but for their weights.
    """

    def __init__(self, models: list[nn.Module]) -> None:
        parameters, _ = stack_module_state(models)
        self.parameters = {name: value.detach() for name, value in parameters.items()}
        self._base = copy.deepcopy(models[0]).to("meta")
        self._gradients = vmap(grad(self._compute_loss))

    def _compute_loss(self, parameters: dict[str, Tensor], inputs: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(self._base, parameters, (inputs,)).outputs, y)

    def take_step(self, inputs: Tensor, y: Tensor) -> None:
        """Descend on a batch for each network, ``(seeds, b, ...)``."""
        gradients = self._gradients(self.parameters, inputs, y)
        for name, value in self.parameters.items():
            value.sub_(gradients[name], alpha=RATE)


def make_models(seeds: int, device: str) -> list[nn.Module]:
    found: list[nn.Module] = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        found.append(DigitsCNN({"y": 2}).to(device))
    return found


def take_single_step(model: nn.Module, inputs: Tensor, y: Tensor) -> None:
    """Descend on a batch as :class:`StackedTrials` does, one network alone."""
    found = torch.autograd.grad(cross_entropy(model(inputs).outputs, y), list(model.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), found, strict=True):
            parameter.sub_(gradient, alpha=RATE)


def time_fused_trials(report: Report) -> None:
    """Part j: steps a second of stacked seeds against one alone, each with and without a graph."""
    rows = []
    alone = 0.0
    for seeds in SEEDS[:2] if report.quick else SEEDS:
        torch.manual_seed(7)
        inputs = torch.randn(seeds, 64, 2, 8, 8, device=report.device)
        y = torch.randint(2, (seeds, 64), device=report.device)
        models = make_models(seeds, report.device)
        stacked = StackedTrials(models)
        for _ in range(3):
            stacked.take_step(inputs, y)
            take_single_step(models[-1], inputs[-1], y[-1])
        names = [name for name, _ in models[-1].named_parameters()]
        apart = max(
            float((stacked.parameters[name][-1] - value.detach()).abs().max())
            for name, value in zip(names, models[-1].parameters(), strict=True)
        )
        report.add_verdict(
            apart < 1e-4, f"{seeds} stacked seeds: the last as alone within {apart:.1g} (1e-4)"
        )
        single = partial(take_single_step, models[0], inputs[0], y[0])
        rate = seeds * measure_rate(partial(stacked.take_step, inputs, y), report)
        alone = alone or measure_rate(single, report)
        rows.append([seeds, alone, rate, rate / alone])
        report.add_figure(f"{seeds} seeds", rows[-1])
    report.print_table(["seeds", "steps/s alone", "steps/s of all", "times"], rows)


def measure_rate(step: Callable[[], None], report: Report) -> float:
    """Return steps a second; on a GPU of a graph of the step, as trials take them."""
    work = step
    if report.is_cuda:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        work = graph.replay
        torch.cuda.synchronize()
    count = 4 if report.quick else 200
    start = time.perf_counter()
    for _ in range(count):
        work()
    if report.is_cuda:
        torch.cuda.synchronize()
    return count / (time.perf_counter() - start)
