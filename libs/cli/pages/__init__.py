"""Pages that a person reads in a browser: self-contained, without scripts, and good to print."""
