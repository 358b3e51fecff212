"""Multi-task soft actor-critic whose task gradients any weighting combines."""
