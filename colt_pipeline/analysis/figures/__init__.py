"""The figures: numbers first (``*_data``), then the drawing (``*_plot``)."""
