"""Cost of matrix-free searches, by which ``strategy="auto"`` chooses."""

from dataclasses import dataclass

# Passes through the trunk that a product with the Gram matrix costs.
PASSES_PER_PRODUCT = 2.2
MIN_PRODUCTS = 3  # of the easiest searches
# Exact steps after which "auto" tries again whether a search has become cheaper.
STEPS_BETWEEN_SEARCHES = 100


@dataclass
class SearchHistory:
    """Cost of the last matrix-free search of one weighting, and the exact steps since.

    No clock decides, and the history is part of the weighting's state: a run that is repeated or
    resumed takes the same steps.

    Args:
        last_products: Products that the last matrix-free step cost; 0 before the first.
        exact_steps: Steps since then for which "auto" chose the exact strategy.
        fallbacks: Searches that did not converge, so that their step was made exactly.
    """

    last_products: int = 0
    exact_steps: int = 0
    fallbacks: int = 0

    def record_search(self, products: int) -> None:
        """Record a search that converged after so many products."""
        self.last_products = products
        self.exact_steps = 0

    def record_fallback(self, products: int) -> None:
        """Record a search that did not converge, in a step that cost so many products."""
        self.record_search(products)
        self.fallbacks += 1

    def choose_search(self, passes: float) -> bool:
        """Return whether "auto" searches in this step; count the step if not.

        Args:
            passes: Passes through the trunk that the exact strategy takes.
        """
        if passes > PASSES_PER_PRODUCT * max(self.last_products, MIN_PRODUCTS):
            return True
        self.exact_steps += 1
        if self.exact_steps < STEPS_BETWEEN_SEARCHES or passes <= PASSES_PER_PRODUCT * MIN_PRODUCTS:
            return False
        self.exact_steps = 0
        return True
