"""The asset graph: thin Dagster over ``medvl_lib``.

Put here what connects steps to assets, checks, resources and jobs. Keep out arithmetic, SQL, file formats and torch: they live in
``medvl_lib``, which never imports this package.
"""
