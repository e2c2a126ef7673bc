"""Networks along a straight line: values, slopes, breakpoints, region by region."""
