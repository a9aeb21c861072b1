"""What deploy.sh runs: the commands, each a module, and what they share.

`main` reads the command line; `bootstrap`, `build`, `rollback`, `history`, `doctor` and `local` are commands.  What is
asked of AWS goes through `aws`, what people see through `screen`, and config.ini through `config`.
"""
