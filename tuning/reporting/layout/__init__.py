"""Tables as people read them: columns, terminals, Markdown, LaTeX, CSV files."""
