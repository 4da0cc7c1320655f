"""The notification pipeline, run on a file: the main job, on embedded backends or on real ones."""
