"""One run's search tree: reading, describing and drawing it."""
