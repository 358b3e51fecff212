"""CUDA graphs of training steps: all kernels of a step's gradients, launched at once.

A step of a small model, or of a short batch, has thousands of kernels, which a GPU computes faster
than the host launches them one by one. The kernels are the same ones, and so are the numbers.

Weights of a Gram matrix are solved on the host, between two graphs: one computes the gradients and
the matrix, the other their weighted sum.
"""

from collections.abc import Callable, Hashable, Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

from core.garbage import pause_garbage_collection
from core.weighting import GramWeighting, Weighting

MAX_GRAPHS = 256  # shapes of batches; others are computed without a graph


def renew_generator() -> None:
    """Give the current device's generator a copy of its state, after a capture that failed.

    Such a capture leaves the old state waiting for the end of a capture, and each draw fails.
    """
    if torch.cuda.is_available():
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())


class StepGradients(NamedTuple):
    """The losses of a step whose gradients are in ``.grad``.

    Args:
        losses: All losses, ``(k,)``.
        counts: The number of examples that each averages, ``(k,)``.
        weights: The weights of the covered losses; None where there are none.
        gram: Inner products of the present losses' gradients; None where unknown.
        present: Mask of the losses with examples, on the host; None for all.
        predictions: The model's predictions by task, float32; None where they are not measured.
    """

    losses: Tensor
    counts: Tensor
    weights: Tensor | None = None
    gram: Tensor | None = None
    present: Tensor | None = None
    predictions: Mapping[str, Tensor] | None = None


# Takes the inputs of a step: tensors in tuples and dictionaries.
ComputeGradients = Callable[[Any], StepGradients]


class StepGraphs:
    """Graphs by the shape of the batch, for one model, weighting and optimizer.

    The first batch of a shape is computed without a graph, the second is captured. A graph reads
    and writes tensors in place: the parameters, the weighting's buffers, and gradients that all
    graphs share.

    Args:
        optimizer: Has all parameters that get a gradient.
        weighting: A loss weighting whose state is in its buffers, or a Gram weighting.
    """

    def __init__(self, optimizer: Optimizer, weighting: Weighting) -> None:
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._weighting = weighting
        self._graphs: dict[Hashable, _StepGraph | None] = {}
        self._buffers: dict[str, Tensor] = {}
        self._gradients: dict[Tensor, Tensor] = {}
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None
        self._max_graphs = MAX_GRAPHS

    @property
    def count(self) -> int:
        """The number of graphs."""
        return sum(graph is not None for graph in self._graphs.values())

    def compute_gradients(self, inputs: Any, compute: ComputeGradients) -> StepGradients:
        """Return the losses of a step, whose gradients are then in ``.grad``.

        Losses, counts and predictions are overwritten by the next call.

        Args:
            inputs: The batch, and all else that differs from step to step, on the GPU.
            compute: Computes the gradients, by the same kernels for all batches of a shape.
        """
        leaves, structure = pytree.tree_flatten(inputs)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_cuda]
        if len(tensors) < sum(leaf is not None for leaf in leaves):  # data of another kind
            return compute(inputs)
        shape = (str(structure), *((t.shape, t.stride(), t.dtype) for t in tensors))
        graph = self._graphs.get(shape)
        if graph is None:
            if shape not in self._graphs:
                if len(self._graphs) < self._max_graphs:
                    self._graphs[shape] = None
                return compute(inputs)
            graph = self._try_to_capture(inputs, compute)
            if graph is None:
                return compute(inputs)
            self._graphs[shape] = graph
        self._restore_buffers()
        for target, source in zip(graph.inputs, tensors, strict=True):
            target.copy_(source)
        graph.record.replay(self._weighting)
        for parameter in self._parameters:  # another shape's step may have reached more
            parameter.grad = None
        for parameter in graph.reached:
            parameter.grad = self._gradients[parameter]
        return graph.copy_result()

    def free(self) -> bool:
        """Free all graphs, and make no more; return whether there were any."""
        had_graphs, self._max_graphs = self.count > 0, 0
        self._graphs, self._gradients, self._pool = {}, {}, None
        if had_graphs:
            for parameter in self._parameters:
                parameter.grad = None
            torch.cuda.empty_cache()
        return had_graphs

    def _try_to_capture(self, given: Any, compute: ComputeGradients) -> "_StepGraph | None":
        """Return the graph of a step; None, and no more graphs, where it cannot be captured."""
        try:
            return self._capture_graph(given, compute)
        except RuntimeError:  # work that CUDA does not capture, or no memory for a graph
            renew_generator()
            # What a capture left in the weighting was never computed.
            for name, kept in self._buffers.items():
                setattr(self._weighting, name, kept)
            self.free()
            return None

    def _capture_graph(self, given: Any, compute: ComputeGradients) -> "_StepGraph":
        """Capture the gradients of a step, without computing them."""
        inputs = pytree.tree_map_only(Tensor, torch.clone, given)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        self._stream = self._stream or torch.cuda.Stream()  # cuBLAS has a workspace for each
        record = _Record(self._pool)
        if not isinstance(self._weighting, GramWeighting):
            self._buffers = self._buffers or dict(self._weighting.named_buffers())
        self._restore_buffers()
        torch.cuda.synchronize()
        # CUDA refuses to free a graph of an earlier run, which is garbage, during a capture.
        with pause_garbage_collection(), torch.cuda.stream(self._stream):
            record.begin()
            try:
                result = record.run(self._weighting, compute, inputs)
                reached = self._keep_gradients()
                self._restore_buffers()
            finally:
                record.end()
        tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
        return _StepGraph(record, tensors, result, reached, compute)

    def _keep_gradients(self) -> list[Tensor]:
        """Copy the gradients to where every graph leaves them; return their parameters."""
        found = {p: p.grad for p in self._parameters if p.grad is not None}
        for parameter in found:
            if parameter not in self._gradients:
                self._gradients[parameter] = torch.empty_like(parameter)
            parameter.grad = None
        torch._foreach_copy_([self._gradients[p] for p in found], list(found.values()))
        return list(found)

    def _restore_buffers(self) -> None:
        """Copy the weighting's buffers that were replaced to where the graphs read them."""
        for name, kept in self._buffers.items():
            current = self._weighting.get_buffer(name)
            if current is not kept:
                kept.copy_(current)
                setattr(self._weighting, name, kept)


class _Solve(NamedTuple):
    """Weights that are solved between two graphs.

    Args:
        gram: The Gram matrix that one graph writes.
        weights: The weights that the next one reads.
    """

    gram: Tensor
    weights: Tensor


class _Record:
    """The graphs of a step, and the weights that are solved between them.

    Args:
        pool: The memory that all graphs share. Replays do not overlap, and leave nothing there that
            another one reads.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._graphs: list[torch.cuda.CUDAGraph] = []
        self._solves: list[_Solve] = []

    def begin(self) -> None:
        """Begin a graph on the current stream."""
        self._graphs.append(torch.cuda.CUDAGraph())
        # Other threads may use the device meanwhile.
        self._graphs[-1].capture_begin(pool=self._pool, capture_error_mode="thread_local")

    def end(self) -> None:
        """End the graph."""
        self._graphs[-1].capture_end()

    def run(self, weighting: Weighting, compute: ComputeGradients, inputs: Any) -> StepGradients:
        """Compute gradients into graphs."""
        if not isinstance(weighting, GramWeighting):
            return compute(inputs)
        with weighting.replace_solver(self._defer_weights):
            return compute(inputs)

    def _defer_weights(self, gram: Tensor) -> Tensor:
        """Return the memory of the weights of a Gram matrix, which are solved in each replay."""
        self.end()
        self._solves.append(_Solve(gram, torch.empty_like(gram[0])))
        self.begin()
        return self._solves[-1].weights

    def replay(self, weighting: Weighting) -> None:
        """Launch the graphs, and solve the weights between them."""
        for graph, solve in zip_longest(self._graphs, self._solves):
            graph.replay()
            if solve is not None:
                assert isinstance(weighting, GramWeighting)
                solve.weights.copy_(weighting.compute_weights(solve.gram))


class _StepGraph(NamedTuple):
    """A captured step.

    Args:
        record: Its graphs.
        inputs: The tensors that they read the batch from.
        result: The tensors that they write to.
        reached: The parameters that get a gradient.
        compute: Holds further tensors that they read.
    """

    record: _Record
    inputs: list[Tensor]
    result: StepGradients
    reached: list[Tensor]
    compute: ComputeGradients

    def copy_result(self) -> StepGradients:
        """Return the result, with copies of the tensors that are kept beyond the step."""
        weights, gram = self.result.weights, self.result.gram
        return self.result._replace(
            weights=None if weights is None else weights.clone(),
            gram=None if gram is None else gram.clone(),
        )
