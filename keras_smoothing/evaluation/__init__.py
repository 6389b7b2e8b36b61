from keras_smoothing.evaluation.certified_accuracy import (
    average_certified_radius as average_certified_radius,
)
from keras_smoothing.evaluation.certified_accuracy import (
    certified_accuracy as certified_accuracy,
)
from keras_smoothing.evaluation.certified_accuracy import (
    default_radii as default_radii,
)
from keras_smoothing.evaluation.compare import Comparison as Comparison
from keras_smoothing.evaluation.compare import compare as compare
from keras_smoothing.evaluation.iou import worst_iou as worst_iou
from keras_smoothing.evaluation.robust_accuracy import (
    RobustAccuracy as RobustAccuracy,
)
from keras_smoothing.evaluation.robust_accuracy import (
    robust_accuracy as robust_accuracy,
)
from keras_smoothing.evaluation.tables import (
    plot_certified_accuracy as plot_certified_accuracy,
)
from keras_smoothing.evaluation.tables import table as table
