"""This rank's batches: taken in order, decoded, augmented, damaged ones replaced."""
