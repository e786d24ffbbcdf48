"""Train a phonon or an electron network, as ``mlepi train`` does.

``python train.py model=hedgenet_electron`` (see ``conf/train.yaml``).
"""

import sys

from mlepi.commands.train import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
