"""Loggers: ended runs of a study, written in the forms that other tools read."""
