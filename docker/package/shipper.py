"""What the launcher starts: the command line, with the packages behind the standard library."""

import sys

sys.path.append("/opt/shipper/packages")

from shipper.__main__ import main

sys.exit(main())
