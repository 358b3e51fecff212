"""Results for others: models, archives to verify, and tables beside the published ones."""
