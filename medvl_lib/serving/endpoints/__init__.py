"""The endpoints, a module for each group: how a request is read and how its answer looks.

In: ``counter.Now``, which knows what is served, and the desk that answers. Out: a router for each group. Answering is the desk's, reading
uploads ``uploads``', refusing ``problems``'.
"""
