"""`qtarget answers`: the questions of one run or two with their samples and grades, on a terminal or as a page."""
