"""Commands beside the main ones: look ahead, look after recordings, measure noise, serve a model."""
