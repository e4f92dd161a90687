"""One module a revision, upwards and downwards."""
