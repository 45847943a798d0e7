"""Knowledge distillation as a list of terms: student tap -> head -> loss <- teacher tap, times a weight."""
