"""Values to text: tables, curves, screens and log lines. Pure: no clock, no terminal, no cluster."""
