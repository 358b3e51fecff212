"""One training run: recipe, model, epochs, evaluation, state. Knows no Ray and no study."""
