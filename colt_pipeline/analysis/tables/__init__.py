"""The tables, ours and the paper's beside them."""
