"""Who is told what, when and why; and what customers may expect."""
