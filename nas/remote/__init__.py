"""A server from the outside: `Client` in Python, and `RemoteStore`, by which every command reads a server's jobs.

http.py     requests: the API key, retries, problems as exceptions (errors.py)
read.py     jobs and trials from JSON, the inverse of nas/wire.py
store.py    `RemoteStore`, a `nas.contracts.Jobs` over HTTP
job.py      `RemoteJob`, what `Client.search` gives; result.py, events.py, predictor.py, export.py
client.py   `Client`
"""
