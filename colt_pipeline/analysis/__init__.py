"""From finished runs to tidy CSV files, tables and figures; every caption says where its numbers come from."""
