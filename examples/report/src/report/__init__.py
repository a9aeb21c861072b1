"""A summary of a year's sales."""
