"""The command ``rmd``: configuration, logs, and the life of the process."""
