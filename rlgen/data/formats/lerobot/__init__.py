"""LeRobot 3.0: parquet files with the images in them."""
