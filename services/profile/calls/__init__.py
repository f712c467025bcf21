"""The calls of the profile service, by what they are about."""
