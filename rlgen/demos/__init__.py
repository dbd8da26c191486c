"""Demonstrations: recorded by the scripted expert, or imported from humans."""
