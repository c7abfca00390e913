"""History back into feeds, and the synthetic world."""
