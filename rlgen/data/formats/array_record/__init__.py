"""array_record: a record for every step, for random access."""
