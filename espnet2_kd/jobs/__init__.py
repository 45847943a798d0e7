"""The job driver behind `cmd.sh`: commands and arrays of them, on this machine or through a cluster's scheduler.

It starts with every stage of a recipe and on every node, so it imports nothing but the standard library.
"""
