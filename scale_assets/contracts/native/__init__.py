"""The reader of lines in C, for machines where it was built; all else reads them without it."""
