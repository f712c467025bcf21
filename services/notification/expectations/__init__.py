"""What customers await: promises, answers, deadlines."""
