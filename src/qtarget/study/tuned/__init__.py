"""`qtarget study`: which target pays when every method is tuned alike, on the lab.

settings, tuned_arms  what is compared: twelve settings and a control; ten arms, each with six configurations
beyond                the second protocol: its arms, and the contrasts between them
design, protocol      which runs that makes, and the file that says so before a test question is asked
pretrained            students and teachers, pre-trained once for each seed
runs, outcome         one run, and what it gave; schedule: all of them, in one process or several
estimate              how long the study takes, and how many seeds fit
own_context           what a student makes of a context, as its own teacher
analysis              from outcomes to verdicts
page                  the page about them: score_tables, contrast_tables, study_sentences (study_cells), picture
run_study             the command
"""
