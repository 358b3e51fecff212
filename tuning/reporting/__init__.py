"""Exports, tables and progress."""
