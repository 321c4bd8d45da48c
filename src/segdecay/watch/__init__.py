"""A page on 127.0.0.1 that shows a run while another process works on it; it only reads the folder of the run."""
