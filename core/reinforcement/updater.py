"""Updates from the replay, one after another: on a GPU, replays of one CUDA graph.

An update of small networks is hundreds of short kernels, whose launches take longer than they do.
A graph launches all of them at once: drawing of transitions and noise, gradients, weights, and the
steps of all optimizers. On a CPU, and with weightings that are solved on the host, the same code
runs without a graph.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.garbage import pause_garbage_collection
from core.reinforcement.learner import Learner, UpdateResult
from core.reinforcement.replay import Replay
from core.weighting.device_only import stay_on_device

WARM_UP_UPDATES = 3  # before the capture, by which libraries and optimizers make their state


class _Captured(NamedTuple):
    """A graph and the memory of its results.

    Args:
        graph: The graph.
        result: The results of its last replay.
        joined: All their numbers, ``(n,)`` float64.
    """

    graph: torch.cuda.CUDAGraph
    result: UpdateResult
    joined: Tensor


class Updater:
    """Draws transitions and updates a learner. Nothing here waits for the device.

    The first updates, and the capture after them, are made once for each object: it cannot outlast
    a change of the learner or the replay that is not in place, such as a loaded state or the end of
    an epoch of a weighting.

    Args:
        learner: The learner.
        replay: Its replay.
        count: Transitions of each task in an update.
        use_graph: Whether to use a graph where the device and the weightings have one.
    """

    def __init__(
        self, learner: Learner, replay: Replay, count: int, use_graph: bool = True
    ) -> None:
        self._learner, self._replay, self._count = learner, replay, count
        self._weightings = (learner.actor_weighting, learner.critic_weighting)
        self.uses_graph = (
            use_graph
            and learner.log_temperatures.is_cuda
            and all(weighting.has_fixed_kernels for weighting in self._weightings)
        )
        self._updates = 0
        self._captured: _Captured | None = None

    def update(self) -> UpdateResult:
        """Draw transitions and take one update."""
        if not self.uses_graph:
            return self._take_update()
        if self._updates < WARM_UP_UPDATES:
            self._updates += 1
            return _run_beside(self._take_update_in_place)
        if self._captured is None:
            self._captured = self._capture_update()
        self._captured.graph.replay()
        # The next replay overwrites the results: a single kernel copies all of them.
        return split_result(self._captured.result, self._captured.joined.clone())

    def _take_update(self) -> UpdateResult:
        return self._learner.update(self._replay.draw_transitions(self._count))

    def _take_update_in_place(self) -> UpdateResult:
        with stay_on_device(), keep_buffers_in_place(self._weightings):
            return self._take_update()

    def _capture_update(self) -> _Captured:
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile.
        with pause_garbage_collection(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = self._take_update_in_place()
            joined = join_result(result)
        return _Captured(graph, result, joined)


def _run_beside(work: Callable[[], UpdateResult]) -> UpdateResult:
    """Run work on another stream, as a capture will, after and before all else."""
    stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        result = work()
    current.wait_stream(stream)
    for tensor in list_tensors(result):
        tensor.record_stream(current)
    return result


@contextmanager
def keep_buffers_in_place(modules: tuple[nn.Module, ...]) -> Iterator[None]:
    """Keep the memory of modules' buffers that a step replaces by tensors of the same shape.

    A replay reads and writes the memory that was captured.
    """
    before = [(m, name, buffer) for m in modules for name, buffer in m.named_buffers(recurse=False)]
    yield
    for module, name, buffer in before:
        now = module.get_buffer(name)
        is_alike = now.shape == buffer.shape and now.dtype == buffer.dtype
        if now is not buffer and is_alike and now.device == buffer.device:
            buffer.copy_(now.detach())
            setattr(module, name, buffer)


def list_tensors(result: UpdateResult) -> list[Tensor]:
    """Return the tensors of a result."""
    parts = (result.critic.weights, result.critic.gram, result.actor.weights, result.actor.gram)
    return [*result[:3], *(part for part in parts if part is not None)]


def join_result(result: UpdateResult) -> Tensor:
    """Return all numbers of a result, ``(n,)`` float64."""
    return torch.cat([tensor.detach().double().flatten() for tensor in list_tensors(result)])


def split_result(like: UpdateResult, joined: Tensor) -> UpdateResult:
    """Return the result, in the form of another, whose numbers :func:`join_result` joined."""
    tensors = list_tensors(like)
    pieces = joined.split([tensor.numel() for tensor in tensors])
    found = iter(p.view(t.shape) for p, t in zip(pieces, tensors, strict=True))
    losses = (next(found), next(found), next(found))
    parts = [
        part._replace(
            weights=None if part.weights is None else next(found),
            gram=None if part.gram is None else next(found),
        )
        for part in (like.critic, like.actor)
    ]
    return UpdateResult(*losses, parts[0], parts[1])
