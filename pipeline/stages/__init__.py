"""One file, one stage of dvc.yaml."""
