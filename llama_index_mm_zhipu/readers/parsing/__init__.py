"""Text files of any size, record by record: lines, tables, JSON."""
