"""How the learning rate goes over a run; a file per plan."""
