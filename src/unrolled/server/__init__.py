"""Streams over HTTP and WebSocket.

A request says the position that it expects (`at`), so that a retry is applied once; its answer goes out after
the new state is stored. `app` has the addresses, `keeper` steps the `streams`; nothing here needs torch.
"""
