"""Sources into the lake: every row once, none lost."""
