"""Live progress of a command's runs: a table on a terminal, lines elsewhere."""
