"""The shop's API: requests, how to read responses, when to wait and when to retry.

Nothing here knows Airflow. Only the two transports touch a socket; everything else is plain
values and generators, so that the sync client (tasks) and the async one (triggers) share it.
"""
