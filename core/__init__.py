"""One training run: recipe, model, rounds, evaluation, state. Knows no Ray and no study."""
