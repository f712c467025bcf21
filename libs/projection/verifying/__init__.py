"""Proves a projection: `copying` folds it anew beside the live one, `comparing` compares them."""
