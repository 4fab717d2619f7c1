"""The figures: first their numbers (``*_data``), then the drawing (``*_plot``)."""
