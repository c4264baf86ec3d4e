"""The charts of the report, as SVG; the only package that imports matplotlib."""
