from keras_smoothing.callbacks.of_equilibrium_layers import (
    SolverMonitor as SolverMonitor,
)
from keras_smoothing.callbacks.of_equilibrium_layers import (
    UnrolledPretraining as UnrolledPretraining,
)
