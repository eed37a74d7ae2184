"""Battles to look at: pictures, films, a window, and the replay page."""
