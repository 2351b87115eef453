"""Records, decoding, order and packing of face images."""
