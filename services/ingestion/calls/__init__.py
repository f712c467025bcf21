"""The calls of the ingestion service, by what they are about."""
