"""What people decide about who is who: merges, un-merges, detached identities, and why."""
