"""Where in an image lies what excites a unit, and how far to trust each map."""
