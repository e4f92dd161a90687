"""Generated requests against a real server: what the OpenAPI document promises, the service keeps.

`python -m tests.fuzz` runs it; `campaign.run` is the same from Python. The requests are schemathesis'.
"""
