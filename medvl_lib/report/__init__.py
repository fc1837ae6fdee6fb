"""The report of one evaluation: what a reviewer reads, prints and signs, and the same content for machines.

In: the directories that an evaluation was made of. Out: one ``Report`` value (``content``), gathered once (``gather``), laid out once
(``layout``) and written as HTML, Markdown and JSON (``html``, ``markdown``, ``written``). Nothing is measured or judged here.
"""
