"""The study: search, select, confirm, export. The only package that knows Ray and Optuna."""

from tuning.cluster.ray_environment import configure_ray

configure_ray()
