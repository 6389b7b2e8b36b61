from keras_smoothing.equilibrium import cells as cells
from keras_smoothing.equilibrium.anderson import Anderson as Anderson
from keras_smoothing.equilibrium.broyden import Broyden as Broyden
from keras_smoothing.equilibrium.diagnosis import (
    plot_residuals as plot_residuals,
)
from keras_smoothing.equilibrium.diagnosis import (
    spectral_radius as spectral_radius,
)
from keras_smoothing.equilibrium.fixed_point_correction import (
    FixedPointCorrection as FixedPointCorrection,
)
from keras_smoothing.equilibrium.fixed_point_iteration import (
    FixedPointIteration as FixedPointIteration,
)
from keras_smoothing.equilibrium.gradients import Gradient as Gradient
from keras_smoothing.equilibrium.gradients import Implicit as Implicit
from keras_smoothing.equilibrium.gradients import OneStep as OneStep
from keras_smoothing.equilibrium.gradients import Phantom as Phantom
from keras_smoothing.equilibrium.gradients import Unrolled as Unrolled
from keras_smoothing.equilibrium.jacobian_penalty import (
    jacobian_penalty as jacobian_penalty,
)
from keras_smoothing.equilibrium.solver import Solver as Solver
from keras_smoothing.equilibrium.state import CONVERGED as CONVERGED
from keras_smoothing.equilibrium.state import MAX_ITER as MAX_ITER
from keras_smoothing.equilibrium.state import NON_FINITE as NON_FINITE
from keras_smoothing.equilibrium.state import Solution as Solution
