"""Training-serving skew: the vectors that were served, beside what the lake says of the same time."""
