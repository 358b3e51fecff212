"""Own data: the names of folders, their tables, and their file ``dataset.yaml``."""
