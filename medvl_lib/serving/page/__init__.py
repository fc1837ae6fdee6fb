"""The page: the served model, its benchmark and blinded ratings, for a person with a browser.

In: what a server serves, and its data root. Out: five tabs below ``/page``, as HTML that needs no script and is nicer with one; scripts,
styles and pictures come from this server alone. What a question is and who answers stands in ``desk``; what was measured in the store; how
a rating is read and kept in ``reviews``. Gradio is not here (docs/decisions/0025-a-page-of-our-own.md).
"""
