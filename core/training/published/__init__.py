"""Published configurations, printed by ``python -m core.training.published``."""
