"""Run directories and the append-only JSON Lines files they are made of."""
