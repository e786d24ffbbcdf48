"""What the networks of a committee disagree about, in every observable of a run."""
