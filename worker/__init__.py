"""The analysing and delivering side: tasks, analysis, outputs, courier."""
