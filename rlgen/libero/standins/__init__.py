"""Plain-geometry stand-ins for the benchmark's object assets, so that a task builds without a download.

Tables describe each thing as a few boxes, cylinders and sites; `tree` writes them as an asset folder with
the benchmark's own file names. To cover more tasks, add rows to the tables.
"""

from rlgen.libero.standins.tree import MARKER, content_key, standin_files, standin_objects, write_standins

__all__ = ["MARKER", "content_key", "standin_files", "standin_objects", "write_standins"]
