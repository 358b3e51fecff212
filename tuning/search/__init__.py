"""Search: propose, prune, retry and confirm the trials of each method; simulate searches."""
