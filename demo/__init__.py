"""What ``make demo`` tells: two processes share one card, a third is refused, a fourth waits, one is killed."""
