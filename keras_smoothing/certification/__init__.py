from keras_smoothing.certification.certify import certify as certify
from keras_smoothing.certification.certify import classify as classify
from keras_smoothing.certification.claim import Claim as Claim
from keras_smoothing.certification.fingerprint import structure as structure
from keras_smoothing.certification.plan import Plan as Plan
from keras_smoothing.certification.plan import plan as plan
from keras_smoothing.certification.read_log import read_log as read_log
from keras_smoothing.certification.result import ABSTAIN as ABSTAIN
from keras_smoothing.certification.result import (
    CertificationResult as CertificationResult,
)
from keras_smoothing.certification.stopping import (
    AdaptiveSampling as AdaptiveSampling,
)
from keras_smoothing.certification.stopping import (
    FixedSampling as FixedSampling,
)
from keras_smoothing.certification.stopping import StoppingRule as StoppingRule
from keras_smoothing.certification.votes import VoteCounter as VoteCounter
from keras_smoothing.certification.votes import count_votes as count_votes
from keras_smoothing.certification.votes import num_classes as num_classes
