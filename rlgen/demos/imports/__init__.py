"""Human demonstrations: downloaded, read, replayed and written in the layout of this project."""
