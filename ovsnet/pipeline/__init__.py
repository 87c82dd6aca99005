"""The OpenFlow pipeline as data: tables, fields, flow templates, and their checks."""
