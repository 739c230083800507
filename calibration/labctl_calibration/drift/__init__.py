"""A watch on drift: probes, charts with a set rate of false alarms, what an alarm says and leads to."""
