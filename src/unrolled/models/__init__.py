"""Models that train, in torch: one module a task, made of a front end, recurrent layers and a head.

The names and shapes of their parameters are those of `unrolled.architecture`. Nothing here knows a file.
"""
