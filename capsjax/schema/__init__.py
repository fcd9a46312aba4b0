"""The configuration engine: from text and flags to frozen dataclasses, and back."""
