"""`python -m mtlsproxy.fetch FOLDER PARENT`: the helper process, started by `fetch.client` alone."""

import sys
from pathlib import Path

from mtlsproxy.fetch.helper import main

main(Path(sys.argv[1]), int(sys.argv[2]))
