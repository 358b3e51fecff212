"""One training run: recipe, model, epochs, evaluation, state. Independent of Ray and studies."""

import common  # noqa: F401  (refuses a Python without torch)
