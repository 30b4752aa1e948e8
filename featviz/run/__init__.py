"""How work is kept, resumed and shared out: folders that are whole or unfinished, locks, engines."""
