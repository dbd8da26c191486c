"""Quality metrics of episodes and of datasets."""
