"""Records and results that exports leave out: damaged, half-written or foreign."""
