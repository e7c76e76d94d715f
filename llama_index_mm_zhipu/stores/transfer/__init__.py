"""Moving between stores through Parquet shards."""
