"""One picture: what it may be, whether it is whole, and how it is decoded."""
