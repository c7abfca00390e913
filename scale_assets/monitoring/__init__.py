"""Statistics, drift and freshness of features and tables: what is kept about them, and how it is judged."""
