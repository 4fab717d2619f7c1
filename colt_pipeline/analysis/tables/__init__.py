"""The tables, with the paper's beside ours."""
