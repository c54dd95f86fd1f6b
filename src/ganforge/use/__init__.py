"""What one does with a trained game."""
