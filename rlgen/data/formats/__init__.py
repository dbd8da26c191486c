"""The formats of datasets, one folder each; `rlgen.data.writer` says how to add one."""
