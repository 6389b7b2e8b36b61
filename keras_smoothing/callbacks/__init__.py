from keras_smoothing.callbacks.solver_monitor import (
    SolverMonitor as SolverMonitor,
)
from keras_smoothing.callbacks.unrolled_pretraining import (
    UnrolledPretraining as UnrolledPretraining,
)
