"""Study two: which target pays when every method is tuned alike, on the lab.

settings, tuned_arms what is compared: twelve settings and a control; ten arms, each with six configurations
design, protocol    which runs that makes, and the file that says so before a test question is asked
runs, schedule      making the runs, in one process or several; estimate: how many seeds fit
analysis            from outcomes to verdicts; page, picture: the page about them
"""
