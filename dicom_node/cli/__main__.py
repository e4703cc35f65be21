"""``python -m dicom_node.cli``: the same as ``blindread``."""

import sys

from dicom_node.cli import main

sys.exit(main())
