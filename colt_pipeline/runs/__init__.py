"""Run directories and the append-only JSON Lines files in them."""
