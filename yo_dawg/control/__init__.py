"""What holds the role's credentials.  It parses, imports and inflates nothing that somebody else made."""
