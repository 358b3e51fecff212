"""Methods: their YAML files, recipes and trial keys."""
