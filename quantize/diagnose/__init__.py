"""Where the error of an int8 model comes from: measured for the report, and on request."""
