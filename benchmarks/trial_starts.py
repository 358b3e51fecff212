"""Time the starts of two trials in one process: python -m benchmarks.trial_starts NAME ROOT MODEL.

Print the seconds from the start of the process to the first trial's first step, and those of the
second trial, which finds the libraries and the data loaded. `benchmarks.input_pipeline` compares.
"""

import time

START = time.perf_counter()

import sys  # noqa: E402

import datasets  # noqa: E402
from common.hyperparameters import Hyperparameters  # noqa: E402
from core.environment import detect_environment  # noqa: E402
from core.recipe.method_files import load_method  # noqa: E402
from core.recipe.resolved_method import resolve_method  # noqa: E402
from core.training.run import Run  # noqa: E402


def main(name: str, root: str, model: str) -> None:
    benchmark = datasets.load_benchmark(name, root)
    resolved = resolve_method(load_method("erm"), benchmark)
    start = START
    for seed in (0, 1):
        config: Hyperparameters = {"model": model, "batch_size": 8}
        Run(resolved.make_key(config, seed, detect_environment(gpu=False)), benchmark)
        print(time.perf_counter() - start)
        start = time.perf_counter()


if __name__ == "__main__":
    main(*sys.argv[1:])
