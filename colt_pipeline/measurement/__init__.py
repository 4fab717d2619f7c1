"""Latencies of programs: measured by workers or estimated, and recorded in ledgers."""
