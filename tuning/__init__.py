"""The study: search, select, confirm, export. The only package that knows Ray and Optuna."""

from tuning.ray_environment import prepare

prepare()
