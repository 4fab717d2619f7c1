"""Whole models of a user's own."""
