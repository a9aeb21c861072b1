"""A program that clones: it ends before any code of a project runs."""
