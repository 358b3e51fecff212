"""The process that trains trials; :mod:`tuning.search.retries` decides which run again."""
