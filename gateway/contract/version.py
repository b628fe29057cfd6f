"""The version of the wire contract between the planes, and what each number changed.

1  first version: endpoints, routes, keys, teams; usage events with disjoint token buckets.
"""

SCHEMA_VERSION = 1
