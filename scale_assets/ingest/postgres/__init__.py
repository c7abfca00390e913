"""PostgreSQL's own changes into the lake: logical decoding without a broker in between."""
