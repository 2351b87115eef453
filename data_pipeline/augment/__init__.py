"""What is done to a training image between its decoding and the network."""
