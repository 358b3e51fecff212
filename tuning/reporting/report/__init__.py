"""The report: one HTML file about the studies in one or several results folders."""
