"""The comparison of the approaches: statistics, tables and the page."""
