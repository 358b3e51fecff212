"""How many trials fit on nodes, and the error when none does."""

import pytest

from common.errors import UserError
from tuning.resources import Node, Resources, choose_resources, count_slots


@pytest.mark.parametrize(
    ("cpus", "gpus", "node", "expected"),
    [
        (1, 0, Node("a", 8, 0), 8),
        (3, 0, Node("a", 8, 0), 2),
        (1, 0.25, Node("a", 8, 1), 4),
        (1, 0.25, Node("a", 3, 1), 3),
        (1, 0.4, Node("a", 8, 2), 4),  # two to a GPU: a share does not cross to the next one
        (1, 1, Node("a", 8, 2), 2),
        (1, 2, Node("a", 8, 3), 1),
        (1, 0.1, Node("a", 32, 1), 10),
        (1, 1, Node("a", 8, 0), 0),
        (16, 0, Node("a", 8, 0), 0),
    ],
)
def test_fit(cpus: int, gpus: float, node: Node, expected: int) -> None:
    assert Resources(cpus, gpus).count_trials(node) == expected


def test_slots_add_up_and_one_gpu_is_the_default_where_there_is_one() -> None:
    nodes = [Node("head", 4, 0), Node("worker", 8, 2)]
    chosen = choose_resources(nodes, 1, None)
    assert chosen.gpus == 1
    assert count_slots(nodes, chosen) == 2
    assert choose_resources([Node("head", 4, 0)], 1, None).gpus == 0


def test_the_largest_node_is_named() -> None:
    nodes = [Node("small", 2, 0), Node("big", 16, 0), Node("gpu", 4, 1)]
    with pytest.raises(UserError, match=r"largest node is big \(16 CPUs"):
        choose_resources(nodes, 32, 0)
    with pytest.raises(UserError, match=r"largest node is gpu \(4 CPUs, 1 GPU\)"):
        choose_resources(nodes, 1, 2)
