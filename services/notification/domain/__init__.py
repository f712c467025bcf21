"""The rules of telling and promising, free of I/O."""
