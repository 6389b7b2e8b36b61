"""Networks from papers."""

from keras_smoothing.applications.dncnn import dncnn as dncnn
from keras_smoothing.applications.mdeq import mdeq_large as mdeq_large
from keras_smoothing.applications.mdeq import mdeq_small as mdeq_small
