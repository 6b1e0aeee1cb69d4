"""What `mlops-assets demo` does: months of the shipped models' lives, played in one process. No run needs it."""
