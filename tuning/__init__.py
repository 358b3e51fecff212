"""The study: search, select, confirm, export. The only package that knows Ray and Optuna."""
