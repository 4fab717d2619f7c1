"""Auxiliary commands: forecast costs, manage recordings, measure noise, serve a model."""
