"""From finished runs to tidy CSV files, tables and figures; every caption states where its numbers come from."""
