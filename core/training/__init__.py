"""One training run: loader, steps, evaluation, state."""
