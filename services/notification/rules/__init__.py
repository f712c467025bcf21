"""What is published of rules, what they make of events, and why."""
