"""Dataset formats: RLDS, array_record, LeRobot 3.0 and HDF5."""
