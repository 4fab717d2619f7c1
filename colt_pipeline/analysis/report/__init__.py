"""One page with everything that was found."""
