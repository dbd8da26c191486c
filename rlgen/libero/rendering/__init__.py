"""Renderers: the benchmark's own through OpenGL, and a software renderer."""
