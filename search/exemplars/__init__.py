"""Each unit's strongest images: found, kept, shown."""
