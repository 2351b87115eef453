"""What is trained on: sets of labelled images, by index."""
