"""One pass over images, and what gathers statistics in it."""
