"""Files that others may have written, checked before their contents are used."""
