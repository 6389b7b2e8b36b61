"""Attacks on noisy and on smoothed models."""

from keras_smoothing.attacks.carlini_wagner import (
    carlini_wagner as carlini_wagner,
)
from keras_smoothing.attacks.foolbox_model import foolbox_model as foolbox_model
from keras_smoothing.attacks.l2_pgd import l2_pgd as l2_pgd
