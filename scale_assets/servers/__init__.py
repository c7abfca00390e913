"""The servers of a pipeline on this machine, without Docker: each a process on loopback."""
