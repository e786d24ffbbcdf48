"""From a structure to bands at temperature, as ``mlepi infer`` does.

``python infer.py temperature=[0,100,300]``; all keys: ``conf/infer.yaml`` and ``docs/config.md``.
"""

import sys

from mlepi.commands.infer import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
