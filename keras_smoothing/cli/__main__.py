import sys

from keras_smoothing.cli.command import main

sys.exit(main())
