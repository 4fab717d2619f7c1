"""How far the runs of a command are while they are at work: a table on a terminal, lines elsewhere."""
