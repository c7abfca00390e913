"""Every figure that the project claims, each made by one command."""
