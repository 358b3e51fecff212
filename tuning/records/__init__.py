"""Records of training runs, in a folder or an object store."""
