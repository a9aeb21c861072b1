"""The rooms behind the handler.  Imports go one way: lambda_function, control, the small modules beside these two."""
