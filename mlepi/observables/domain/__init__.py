"""Where the samples lie in the range of the training structures, and the worst as inputs."""
