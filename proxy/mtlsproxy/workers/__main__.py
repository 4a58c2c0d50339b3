"""`python -m mtlsproxy.workers CHANNEL PARENT`: a worker process, started by `workers.crew` alone."""

import sys

from mtlsproxy.workers.work import main

main(int(sys.argv[1]), int(sys.argv[2]))
