"""Showing battles: pictures, animations, a window, and the replay page."""
