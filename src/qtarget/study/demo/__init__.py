"""`qtarget demo`: the study in small, in settings whose student and teacher ship.

demo_scenes      what is shown: the settings, and what the study chose in the nearest of its own
run_demo         making the runs, in two processes
demo_scores      from outcomes to scores and paired differences; demo_view, demo_picture: how they are shown
"""
