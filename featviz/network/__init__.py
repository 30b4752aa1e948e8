"""A network, what it answers, its layers and the addresses of its units."""
