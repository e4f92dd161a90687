"""The commands of `nas`. Each imports what it needs when it runs, so that `nas --help` answers at once."""
