"""How ``rmctl`` ends: its exit statuses beside 0, done, and 2, usage."""

EXIT_REFUSED = 1
EXIT_NO_DAEMON = 69
