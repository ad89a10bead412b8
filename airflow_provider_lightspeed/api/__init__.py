"""The shop's API: what to ask, how to read the answer, when to wait and when to try again.

Nothing here knows Airflow. Only the two transports touch a socket; everything else is plain
values and generators, so that the sync client (tasks) and the async one (triggers) share it.
"""
