"""Making a package: install, prune, stage, prove, compile, zip."""
