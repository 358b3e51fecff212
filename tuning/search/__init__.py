"""Search: propose, prune, select and confirm the trials of each method."""
