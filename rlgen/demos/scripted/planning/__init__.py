"""Plans of the scripted expert: grasps, places, the ways to them, and how the hand holds or pushes what moves."""
