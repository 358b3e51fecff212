"""Refuse a study whose trials' replay is larger than this machine's memory."""

from collections.abc import Sequence

import torch

from common.errors import UserError
from core.environment import detect_environment
from core.reinforcement.replay import check_replay_memory
from datasets.environments.base import EnvironmentBenchmark
from datasets.environments.config import ReinforcementConfig
from tuning.options import Options
from tuning.search.space import Space


def find_large_replays(spaces: Sequence[Space], options: Options) -> list[str]:
    """Return a message for each replay that does not fit; none for a study on other machines."""
    if options.address not in (None, "", "local"):
        return []
    on_gpu = torch.cuda.is_available() and options.gpus_per_trial != 0
    device = torch.device("cuda" if on_gpu else "cpu")
    found = []
    for space in spaces:
        if not isinstance(space.benchmark, EnvironmentBenchmark):
            continue
        values = space.find_common_values(options.search)
        largest = max(map(int, space.list_values("capacity", options.search)))
        key = space.resolved.make_key(
            {**values, "capacity": largest}, 0, detect_environment(gpu=False)
        )
        config = key.training_config
        assert isinstance(config, ReinforcementConfig)
        try:
            check_replay_memory(config, len(space.benchmark.configure(config).tasks), device)
        except UserError as error:
            found.append(str(error))
    return found
