"""Teachers that read another prompt than the student's before the same completion. Begin with `teacher_ids`."""
