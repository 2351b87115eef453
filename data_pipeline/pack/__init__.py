"""Record folders made of image folders, and back."""
