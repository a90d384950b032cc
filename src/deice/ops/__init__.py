"""Pure functions of tensors, any number of axes."""
