"""One run's search tree: read, put into words, drawn."""
