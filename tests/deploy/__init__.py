"""What is read of deploy/ and tilt/, and the rules it keeps; a rule returns its breaches."""
