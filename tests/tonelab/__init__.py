"""The tone and music laboratory: every signal a telephone network lives on, through a running gateway."""
