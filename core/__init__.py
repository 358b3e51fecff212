"""One training run: recipe, model, epochs, evaluation, state. Independent of Ray and studies."""
