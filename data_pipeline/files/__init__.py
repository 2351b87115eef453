"""What every other room needs of the machine: files replaced whole, folders held, cores counted."""
