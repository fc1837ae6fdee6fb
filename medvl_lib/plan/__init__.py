"""Plan: what a stage of a line needs on a profile, in bytes, seconds and room on the disk, before a model is loaded.

In: a stage, the shape of a model (its config.json alone), a profile, and how long and how large what goes through it is. Out: bytes by
part, the micro-batch that keeps the recipe's effective batch and fits, seconds as an estimate; or a refusal with the numbers. ``dry_run``
walks the real model and the real loss without memory, ``memory`` weighs what it counted against the profile, ``speed`` says how long,
``wording`` prints. Nothing here is identity: how many pairs go through at a time changes no weight beyond the order of sums.
"""
