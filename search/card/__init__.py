"""Everything known of one unit on one card."""
