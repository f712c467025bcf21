"""What the services are built from. Libraries never import services."""
