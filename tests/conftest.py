"""What all tests share."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # children inherit it: many threads on a busy machine are slower
