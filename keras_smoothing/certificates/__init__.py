"""Certificates from votes, in float64 on the host. NumPy and SciPy only.

An exported model carries a copy of this folder as a package of its own. Imports
are therefore relative, and only `saved_model.py` needs TensorFlow.
"""

from .adaptive_sampling import AdaptiveSampling as AdaptiveSampling
from .audited import AuditedClaim as AuditedClaim
from .classification import Claim as Claim
from .components import LabelClaim as LabelClaim
from .components import PixelClaim as PixelClaim
from .guarantee import Guarantee as Guarantee
from .intervals import BoxClaim as BoxClaim
from .intervals import MedianClaim as MedianClaim
from .smoothed_classifier import Certificate as Certificate
from .smoothed_classifier import SmoothedClassifier as SmoothedClassifier
from .stopping import FixedSampling as FixedSampling
from .stopping import StoppingRule as StoppingRule
from .votes import Votes as Votes
