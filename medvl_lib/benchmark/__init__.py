"""The benchmark store: typed rows as Parquet, published as one DuckDB file; and the promotion decision."""
